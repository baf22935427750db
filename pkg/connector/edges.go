package connector

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// atOnce is how many edges a connector is linked to, if the list has as many.
	atOnce = 2
	// patience is how long an edge may give no link before another one of the list takes its place, where there is one.
	patience = 15 * time.Second
	// passedOver is about how long an edge is passed over that gave no link, forgiven how long at the most: each time that it gives
	// none again doubles it. An edge that a thousand connectors come to at once gives some of them none at first.
	passedOver = 20 * time.Second
	forgiven   = 5 * time.Minute
	// settle is the least time between two changes of the list that are acted on: two edges that name only each other
	// would have this connector run to and fro.
	settle = 10 * time.Second
	// spread is over how long the connectors of a cluster act on a list that has more to offer than the one before: a new edge
	// must not get all of its connectors in one second. hurry is the same for a list that lacks an edge.
	spread = 20 * time.Second
	hurry  = time.Second
)

// edges holds the links to each of up to two edges. Which ones there are, the edges say; the one of the enrolment is always
// among those that may be tried.
type edges struct {
	shared
	up, opened *prometheus.GaugeVec
	waken      chan struct{}

	mu      sync.Mutex    // guards all below, and cfg, of which follow changes parts
	own     tunnel.Target // the enrolment's edge
	way     []byte        // Config.way of the links
	list    []edgeAddress
	changed time.Time // when the list was changed last
	next    []edgeAddress
	due     time.Time // when next takes the place of list; zero: there is none
	sets    []*set
	givenUp map[string]doubt
	leaving bool
}

// set is the links to one edge while they are kept.
type set struct {
	*links
	// alive is when it was started, or had a fresh link last.
	alive time.Time
	// left is closed, once, when another edge has taken its place and retired is set: it finishes what runs.
	left    chan struct{}
	retired bool
}

func newEdges(s shared) (*edges, error) {
	e := &edges{
		shared: s, waken: make(chan struct{}, 1), givenUp: map[string]doubt{},
		up:     s.cfg.Metrics.Gauge("sallyport_link_up", "Links to edges that had a round trip in the last 10 s.", "lane", "transport"),
		opened: s.cfg.Metrics.Gauge("sallyport_link_tls_opened", "Those of them that go through a firewall that opens TLS, inside a TLS that it cannot open.", "lane"),
	}
	e.attempts = s.cfg.Metrics.Counter("sallyport_link_attempts_total", "Attempts to open a link, by lane and outcome.", "lane", "result")
	e.listed, e.shrink = e.learn, defaultShrinking()
	e.way = s.cfg.way()
	var err error
	if e.own, err = s.cfg.Target(s.identity); err != nil {
		return nil, err
	}
	e.list = loadEdges(s.cfg.StateDir, s.logger)
	return e, nil
}

// targetOf is how to reach an edge the way that cfg says; own is how to reach the enrolment's.
func (e *edges) targetOf(cfg Config, own tunnel.Target, edge string) (tunnel.Target, error) {
	if edge == e.identity.Edge {
		return own, nil
	}
	return cfg.target(e.identity, edge)
}

// run keeps the links to the chosen edges until ctx ends (then they are closed and it returns nil) or one of the edges says
// that the enrolment is revoked.
func (e *edges) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	spawn := func(s *set) {
		running.Go(func() {
			if err := e.keep(ctx, s); err != nil {
				cancel(err)
			}
		})
	}
	running.Go(func() { e.watchNetwork(ctx) })
	for {
		e.arrange(time.Now(), spawn)
		e.count()
		select {
		case <-ctx.Done():
			running.Wait()
			if errors.Is(context.Cause(ctx), ErrRevoked) {
				return ErrRevoked
			}
			return nil
		case <-tick.C:
		case <-e.waken:
		}
	}
}

// keep runs a set until ctx ends or, after the set was retired, what it carries has ended.
func (e *edges) keep(ctx context.Context, s *set) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var leaving sync.WaitGroup
	leaving.Go(func() {
		defer stop()
		select {
		case <-ctx.Done():
			return
		case <-s.left:
		}
		e.mu.Lock()
		within := e.cfg.DrainTimeout
		e.mu.Unlock()
		s.leave(within, false)
		s.finish(ctx, e.shrink.linger)
	})
	err := s.run(ctx)
	stop()
	leaving.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sets = slices.DeleteFunc(e.sets, func(o *set) bool { return o == s })
	return err
}

func (e *edges) wake() {
	select {
	case e.waken <- struct{}{}:
	default:
	}
}

// arrange starts what is chosen and not there, and retires what is there and not chosen once all that is chosen is up, but for what
// gives no link.
func (e *edges) arrange(now time.Time, spawn func(*set)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leaving {
		return
	}
	e.turn(now)
	candidates := order(e.list, e.identity.Edge, string(e.identity.Connector))
	e.judge(now, len(candidates))
	chosen := choose(candidates, e.givenUp, now)
	up, coming := false, false
	for _, url := range chosen {
		s := e.find(url)
		if s == nil {
			if s = e.start(url, now, spawn); s == nil {
				continue
			}
		}
		_, _, fresh := s.fresh()
		up = up || fresh
		coming = coming || !fresh && now.Sub(s.alive) <= patience
	}
	for _, s := range slices.Clone(e.sets) {
		if !s.retired && !slices.Contains(chosen, s.edge) && (up && !coming || now.Sub(s.alive) > patience) {
			s.retired = true
			close(s.left)
			e.logger.Info("leaving an edge for another one", zap.String("edge", s.edge))
		}
	}
}

// judge notes which edges are alive, and gives up those that are not while there are others to try.
func (e *edges) judge(now time.Time, candidates int) {
	maps.DeleteFunc(e.givenUp, func(_ string, d doubt) bool { return now.Sub(d.until) > forgiven })
	for _, s := range e.sets {
		if _, _, fresh := s.fresh(); fresh {
			s.alive = now
			delete(e.givenUp, s.edge)
		} else if !s.retired && candidates > atOnce && now.Sub(s.alive) > patience {
			if d := e.givenUp[s.edge]; !now.Before(d.until) {
				d = d.again(now)
				e.logger.Warn("this edge gives no link: another one takes its place", zap.String("edge", s.edge), zap.Duration("for", d.until.Sub(now)))
				e.givenUp[s.edge] = d
			}
		}
	}
}

func (e *edges) find(url string) *set {
	for _, s := range e.sets {
		if s.edge == url && !s.retired {
			return s
		}
	}
	return nil
}

func (e *edges) start(url string, now time.Time, spawn func(*set)) *set {
	target, err := e.targetOf(e.cfg, e.own, url)
	if err != nil {
		e.logger.Error("edge cannot be dialled", zap.String("edge", url), zap.Error(err))
		e.givenUp[url] = doubt{until: now.Add(forgiven), long: forgiven}
		return nil
	}
	s := &set{links: newLinks(&e.shared, url, target), alive: now, left: make(chan struct{})}
	e.sets = append(e.sets, s)
	spawn(s)
	return s
}

// learn takes the list that an edge sent. A bad one changes nothing.
func (e *edges) learn(m *tunnelv1.Edges) {
	list, err := edgesOf(m)
	if err != nil {
		e.logger.Error("the edge's list of edges is not taken", zap.Error(err))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	switch {
	case slices.Equal(list, e.list):
		e.due = time.Time{} // whoever sent another one thinks so too by now, or is alone with it
		return
	case !e.due.IsZero() && slices.Equal(list, e.next):
		return
	}
	e.next, e.due = list, now.Add(actAfter(e.list, list))
	if !e.changed.IsZero() && e.due.Sub(e.changed) < settle {
		e.due = e.changed.Add(settle)
	}
	e.wake()
}

// actAfter is how long to wait before a list takes the place of the one before.
func actAfter(before, list []edgeAddress) time.Duration {
	if len(before) == 0 {
		return 0
	}
	for _, a := range before {
		if !slices.ContainsFunc(list, func(b edgeAddress) bool { return a.URL == b.URL }) {
			return rand.N(hurry)
		}
	}
	return rand.N(spread)
}

// turn puts the list in force whose time has come. An edge that is new on it is worth a try, whatever was before. The caller holds
// mu.
func (e *edges) turn(now time.Time) {
	if e.due.IsZero() || now.Before(e.due) {
		return
	}
	for _, a := range e.next {
		if !slices.ContainsFunc(e.list, func(b edgeAddress) bool { return a.URL == b.URL }) {
			delete(e.givenUp, a.URL)
		}
	}
	e.list, e.changed, e.due = e.next, now, time.Time{}
	if err := saveEdges(e.cfg.StateDir, e.list); err != nil {
		e.logger.Error("the list of edges could not be noted for the next start", zap.Error(err))
	}
	e.logger.Info("list of edges", zap.Strings("edges", urls(e.list)))
}

func (e *edges) all() []*set {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sets)
}

// leave tells all edges to send no more exchanges. No link is opened after it.
func (e *edges) leave(within time.Duration, succeeded bool) {
	e.mu.Lock()
	e.leaving = true
	e.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range e.all() {
		wg.Go(func() { s.leave(within, succeeded) })
	}
	wg.Wait()
}

// emptied reports whether there is a link to an edge process that drains.
func (e *edges) emptied() bool {
	return slices.ContainsFunc(e.all(), func(s *set) bool { return s.emptied() })
}

func (e *edges) isLeaving() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leaving
}

// count sets the gauge from what is up now; a metrics page asks for it, too.
func (e *edges) count() {
	up := map[[2]string]float64{}
	for _, s := range e.all() {
		s.count(up)
	}
	for labels, n := range up {
		e.up.WithLabelValues(labels[0], labels[1]).Set(n)
	}
	opened := map[string]float64{laneName(tunnelv1.Lane_LANE_FAST): 0, laneName(tunnelv1.Lane_LANE_BULK): 0}
	for _, l := range e.status() {
		if l.Up && l.TLSOpenedBy != "" {
			opened[l.Lane]++
		}
	}
	for lane, n := range opened {
		e.opened.WithLabelValues(lane).Set(n)
	}
}

// status lists the links to all edges.
func (e *edges) status() []LinkStatus {
	out := []LinkStatus{}
	for _, s := range e.all() {
		out = append(out, s.status()...)
	}
	return out
}

// fresh returns the fast link to any edge that had a round trip lately.
func (e *edges) fresh() (transport string, trip time.Duration, ok bool) {
	for _, s := range e.all() {
		if transport, trip, ok = s.fresh(); ok {
			return transport, trip, ok
		}
	}
	return "", 0, false
}

// explain says by lane why it is not what it is at its best; of several edges each is named.
func (e *edges) explain() map[string]string {
	all := e.all()
	if len(all) == 1 {
		return all[0].explain()
	}
	words := map[string][]string{}
	for _, s := range all {
		if s.retired {
			continue
		}
		for lane, why := range s.explain() {
			words[lane] = append(words[lane], s.edge+": "+why)
		}
	}
	out := map[string]string{}
	for lane, each := range words {
		out[lane] = strings.Join(each, "; ")
	}
	return out
}
