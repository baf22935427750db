package cluster

import (
	"context"
	"errors"
	"hash/fnv"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

const (
	// forwardWait is how long a request waits for a link of its site, here or on another edge.
	forwardWait = 5 * time.Second
	// missedFor is how long a peer is not asked for a run of a connector again after it did not have it: it will have said so by then.
	missedFor = time.Second
	// againWait is how long a request whose edge has gone waits for another way to the same run: with the 3.5 s in which that is found
	// (peerIdle) no longer than any waits for a link.
	againWait = forwardWait - 3500*time.Millisecond
	// maxMissed bounds what is remembered of that.
	maxMissed = 10_000
)

// Here picks among this edge's own links; *registry.Registry is one.
type Here interface {
	Pick(ctx context.Context, tenant id.Tenant, site id.Site, stick string) (*registry.Member, error)
	PickHere(tenant id.Tenant, site id.Site, stick string) *registry.Member
}

// Ways are the links to other edges; *Peers is one.
type Ways interface {
	// Way is the one to the holder's run.
	Way(h Holding) Way
}

var (
	_ Here = (*registry.Registry)(nil)
	_ Ways = (*Peers)(nil)
)

// Forwarder picks the link for a request that this edge's browsers sent: its own or, where it has none, one to another edge that
// has. It is proxy's Picker; exchanges that come from other edges never get here (relay). It is safe for concurrent use.
type Forwarder struct {
	here    Here
	ways    Ways
	members *Members
	now     func() time.Time
	turn    atomic.Uint64
	count   *prometheus.CounterVec

	mu     sync.Mutex // guards missed
	missed map[Holding]time.Time
}

// NewForwarder returns a Forwarder. metrics may be nil.
func NewForwarder(here Here, members *Members, ways Ways, metrics *metric.Registry) *Forwarder {
	if metrics == nil {
		metrics = metric.New()
	}
	return &Forwarder{
		here: here, ways: ways, members: members, now: time.Now, missed: map[Holding]time.Time{},
		count: metrics.Counter("sallyport_cluster_forwarded_total", "Requests sent on to another edge, by which.", "edge"),
	}
}

// errNews ends a wait because there may be another way now.
var errNews = errors.New("the other edges hold something else now")

// Pick returns a link of this edge; without one, or with one that is quiet, of another edge that holds one of the site, in the second
// case of another connector; without either, the first that comes within 5 s. Then, or when ctx ends, the error is fault.Unavailable.
func (f *Forwarder) Pick(ctx context.Context, tenant id.Tenant, site id.Site, stick string) (*registry.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardWait)
	defer cancel()
	for {
		changed := f.members.Changed()
		here := f.here.PickHere(tenant, site, stick)
		if here != nil && !here.Quiet() {
			return here, nil
		}
		var quiet id.Connector
		if here != nil {
			quiet = here.Connector
		}
		if m := f.elsewhere(tenant, site, stick, quiet); m != nil {
			return m, nil
		}
		if here != nil {
			return here, nil
		}
		m, err := f.wait(ctx, changed, tenant, site, stick)
		if !errors.Is(err, errNews) {
			return m, err
		}
	}
}

// wait waits for a link of this edge, or with errNews for news of others.
func (f *Forwarder) wait(ctx context.Context, changed <-chan struct{}, tenant id.Tenant, site id.Site, stick string) (*registry.Member, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		again := time.NewTimer(missedFor) // what was missed may be asked again
		defer again.Stop()
		select {
		case <-changed:
			cancel(errNews)
		case <-again.C:
			cancel(errNews)
		case <-ctx.Done():
		}
	}()
	m, err := f.here.Pick(ctx, tenant, site, stick)
	if err != nil && errors.Is(context.Cause(ctx), errNews) {
		return nil, errNews
	}
	return m, err
}

// elsewhere chooses among the runs that other edges hold, but for those of one connector: for one session always the same as long as
// it is there, on every edge. Edges that drain come after the others, then runs that are quiet, and edges that are quiet last.
func (f *Forwarder) elsewhere(tenant id.Tenant, site id.Site, stick string, not id.Connector) *registry.Member {
	var best *Holding
	var way Way
	var rank int
	var score uint64
	turn := f.turn.Add(1)
	for _, h := range f.members.Holders(tenant, site) {
		w := f.ways.Way(h)
		if w.Link == nil || h.Connector == not || f.wasMissed(h) {
			continue
		}
		r := f.rank(h, w)
		if s := weigh(stick, turn, h); best == nil || r < rank || r == rank && s > score {
			best, way, rank, score = &h, w, r, s
		}
	}
	if best == nil {
		return nil
	}
	return f.member(*best, way)
}

// rank is 0 for the best; what is worst weighs more than all else.
func (f *Forwarder) rank(h Holding, w Way) (rank int) {
	if peer, ok := f.members.Peer(h.Edge); ok && peer.Draining {
		rank = 1
	}
	if w.QuietRun {
		rank += 2
	}
	if w.Quiet {
		rank += 4
	}
	return rank
}

// member is the way as proxy takes it.
func (f *Forwarder) member(h Holding, way Way) *registry.Member {
	f.count.WithLabelValues(string(h.Edge)).Inc()
	m := &registry.Member{
		Tenant: h.Tenant, Site: h.Site, Connector: h.Connector, Generation: h.Generation, Link: way.Link, Hop: 1,
		Missed: func() { f.miss(h) },
	}
	if way.Once {
		m.Again = func(ctx context.Context) *registry.Member { return f.again(ctx, h) }
	}
	return m
}

// again returns another way to the run that went is held by, which has gone; it waits for one for a while.
func (f *Forwarder) again(ctx context.Context, went Holding) *registry.Member {
	ctx, cancel := context.WithTimeout(ctx, againWait)
	defer cancel()
	for {
		changed := f.members.Changed()
		for _, h := range f.members.Holders(went.Tenant, went.Site) {
			if h.Connector != went.Connector || h.Generation != went.Generation || f.wasMissed(h) {
				continue
			}
			if w := f.ways.Way(h); w.Link != nil && w.Once && !ended(w.Link) {
				return f.member(h, w)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func ended(link tunnel.Link) bool {
	select {
	case <-link.Done():
		return true
	default:
		return false
	}
}

// weigh is rendezvous hashing; without a stick every request has a turn of its own.
func weigh(stick string, turn uint64, h Holding) uint64 {
	sum := fnv.New64a()
	if stick == "" {
		stick = strconv.FormatUint(turn, 10)
	}
	for _, part := range []string{stick, string(h.Connector), string(h.Edge)} {
		_, _ = sum.Write([]byte(part))
		_, _ = sum.Write([]byte{0})
	}
	return sum.Sum64()
}

// miss notes that a peer did not have what it was asked for.
func (f *Forwarder) miss(h Holding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if len(f.missed) >= maxMissed {
		clear(f.missed)
	}
	f.missed[bare(h)] = now.Add(missedFor)
}

// bare is a holding without what changes.
func bare(h Holding) Holding {
	h.Links, h.Once, h.Quiet, h.Lapsed = 0, false, false, false
	return h
}

func (f *Forwarder) wasMissed(h Holding) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.missed) == 0 {
		return false
	}
	h = bare(h)
	until, ok := f.missed[h]
	if ok && !f.now().Before(until) {
		delete(f.missed, h)
		return false
	}
	return ok
}
