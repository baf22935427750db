package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
)

const (
	// gather is how long changes of links are collected before they are written: a thousand connectors come at once.
	gather = 200 * time.Millisecond
	// callLimit bounds one call of the store; it is well below LeaseLife.
	callLimit = 5 * time.Second
)

// HeartConfig is what a Heart needs.
type HeartConfig struct {
	Store    Store
	Members  *Members
	Registry *registry.Registry
	// Self says who this edge is; the store sets Incarnation and Started, and Share says how much Weight is.
	Self Peer
	// Clock is set by the store's with each heartbeat; nil for one that nothing else goes by.
	Clock *Clock
	// Lag tells how far this edge's copies are behind the change log; nil for nothing.
	Lag     func() time.Duration
	Logger  *zap.Logger
	Metrics *metric.Registry
}

// Heart keeps an edge's row and leases alive and its view of the others fresh. That the store cannot be reached changes nothing
// of what is known; it is tried again at the next beat.
type Heart struct {
	cfg   HeartConfig
	kick  chan struct{}
	watch *watch
	beats *prometheus.CounterVec
	took  *prometheus.HistogramVec
	edges *prometheus.GaugeVec

	born time.Time

	// Run's goroutine alone has these. displaced is set while another process has this edge's name.
	entered, displaced, failing bool
	leveled                     time.Time // when the weight or listed was changed last
	listed                      []id.Edge // the other edges that take links

	weight   atomic.Uint32
	written  atomic.Int64 // when the last heartbeat was, nanoseconds after born; 0: never
	yielding atomic.Bool
}

// NewHeart returns a heart that does not beat yet.
func NewHeart(cfg HeartConfig) *Heart {
	h := &Heart{
		cfg: cfg, kick: make(chan struct{}, 1), born: time.Now(),
		beats: cfg.Metrics.Counter("sallyport_cluster_heartbeats_total", "Heartbeats of this edge in the store, by result.", "result"),
		took:  cfg.Metrics.Histogram("sallyport_cluster_heartbeat_seconds", "How long writing a heartbeat and reading the other edges took.", []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}),
		edges: cfg.Metrics.Gauge("sallyport_cluster_edges", "Other edges that this one knows, by state.", "state"),
	}
	cfg.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_cluster_heartbeat_age_seconds", Help: "How long ago the last heartbeat was written; it is 0 before the first.",
	}, func() float64 { return h.Age().Seconds() }))
	if h.cfg.Clock == nil {
		h.cfg.Clock = NewClock(nil)
	}
	h.watch = newWatch(h.cfg.Clock, cfg.Logger, cfg.Metrics)
	h.cfg.Self.Share = cmp.Or(cfg.Self.Share, DefaultWeight)
	h.cfg.Self.Weight = h.cfg.Self.Share * unit
	h.weight.Store(h.cfg.Self.Weight)
	cfg.Members.WhenNewer(func(n Holding) {
		cfg.Registry.Outdone(registry.Presence{Tenant: n.Tenant, Site: n.Site, Connector: n.Connector, Generation: n.Generation, Links: n.Links})
	})
	return h
}

// Run beats until ctx ends, then takes this edge's row away unless a newer incarnation has it.
func (h *Heart) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			h.leave()
			return nil
		case <-h.cfg.Registry.Stirred():
			h.take()
			if soon := time.Now().Add(gather); soon.Before(next) {
				next = soon
				timer.Reset(gather)
			}
			continue
		case <-h.kick:
		case <-timer.C:
		}
		h.take()
		h.beat(ctx)
		next = time.Now().Add(BeatEvery)
		timer.Reset(BeatEvery)
	}
}

// Age is how long ago the last heartbeat was written; 0 before the first.
func (h *Heart) Age() time.Duration {
	at := h.written.Load()
	if at == 0 {
		return 0
	}
	return time.Since(h.born) - time.Duration(at)
}

// take tells the members, and through them the peers, what has changed.
func (h *Heart) take() {
	var changes []Holding
	for _, p := range h.cfg.Registry.TakePresence() {
		changes = append(changes, Holding{Tenant: p.Tenant, Site: p.Site, Connector: p.Connector, Generation: p.Generation, Links: p.Links, Once: p.Once, Quiet: p.Quiet})
	}
	h.cfg.Members.hold(changes)
}

// beat writes and reads once.
func (h *Heart) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	began := time.Now()
	err := h.write(ctx)
	if err == nil || fault.Is(err, fault.Conflict) {
		err = errors.Join(err, h.read(ctx))
	}
	h.took.WithLabelValues().Observe(time.Since(began).Seconds())
	h.count()
	h.level(time.Now())
	switch {
	case err == nil:
		h.beats.WithLabelValues("written").Inc()
		if h.failing {
			h.cfg.Logger.Info("this edge is known to the others again")
		}
	case fault.Is(err, fault.Conflict):
		h.beats.WithLabelValues("displaced").Inc()
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return
	default:
		h.beats.WithLabelValues("failed").Inc()
		if !h.failing {
			h.cfg.Logger.Error("the store takes no heartbeat: edges go on with what they know", zap.Error(err))
		}
	}
	h.failing = err != nil
}

// write enters if need be, and writes one beat.
func (h *Heart) write(ctx context.Context) error {
	if h.displaced {
		return displacedError
	}
	if !h.entered {
		incarnation, err := h.cfg.Store.Enter(ctx, h.cfg.Self)
		if err != nil {
			return err
		}
		h.cfg.Members.enter(incarnation)
		h.entered = true
	}
	beat := h.cfg.Members.beat()
	beat.Weight = h.weight.Load()
	beat.Links, beat.Connectors = h.cfg.Registry.Links()
	if h.cfg.Lag != nil {
		beat.Lag = h.cfg.Lag()
	}
	err := h.cfg.Store.Beat(ctx, beat)
	if err != nil {
		h.cfg.Members.unwritten(beat)
		return err
	}
	h.written.Store(max(int64(time.Since(h.born)), 1))
	return nil
}

var displacedError = fault.New(fault.Conflict, "another process runs as this edge")

// read takes the view of the store, and finds out what a conflict meant: a newer incarnation, or that the row was dropped.
func (h *Heart) read(ctx context.Context) error {
	if err := h.cfg.Clock.Measure(ctx, h.cfg.Store.Time); err != nil {
		return err
	}
	h.watch.look()
	h.cfg.Members.clock(h.cfg.Clock.Ahead())
	view, err := h.cfg.Store.View(ctx, h.cfg.Members.marks())
	if err != nil {
		return err
	}
	h.cfg.Members.seen(view)
	mine := slices.IndexFunc(view.Edges, func(s Seen) bool { return s.ID == h.cfg.Self.ID })
	displaced := mine >= 0 && view.Edges[mine].Incarnation > h.cfg.Members.incarnation() && !view.Edges[mine].Lapsed
	switch {
	case displaced && !h.displaced && !h.yielding.Load():
		h.cfg.Logger.Error("another process runs as this edge: the others send nothing here; give each edge a name of its own (cluster.edge)",
			zap.String("edge", string(h.cfg.Self.ID)), zap.String("address", view.Edges[mine].Address))
	case !displaced && (mine < 0 || h.displaced):
		h.entered = false // by the next beat it is there again
	}
	h.displaced = displaced
	return nil
}

func (h *Heart) count() {
	states := map[string]int{"live": 0, "lapsed": 0, "draining": 0}
	for _, p := range h.cfg.Members.Peers() {
		states[p.State()]++
	}
	for state, n := range states {
		h.edges.WithLabelValues(state).Set(float64(n))
	}
}

// State says in a word how an edge is: "live", "draining" or "lapsed".
func (p Peer) State() string {
	switch {
	case p.Lapsed:
		return "lapsed"
	case p.Draining:
		return "draining"
	}
	return "live"
}

// Drain tells the other edges, and through them their connectors, that this one takes no new work. A process that yields its place
// to a successor says nothing: the successor has the name already.
func (h *Heart) Drain(yields bool) {
	if yields {
		h.yielding.Store(true)
		return
	}
	h.cfg.Members.drain(true)
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func (h *Heart) leave() {
	if !h.entered || h.displaced || h.yielding.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit/2)
	defer cancel()
	if err := h.cfg.Store.Leave(ctx, h.cfg.Self.ID, h.cfg.Members.incarnation()); err != nil {
		h.cfg.Logger.Warn("this edge's leases lapse by themselves: the store takes no word", zap.Error(err))
	}
}
