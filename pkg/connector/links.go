package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// quicLead is the head start of QUIC over WebSocket, and quicLeadKnown that where QUIC carried the last link: an edge that a
	// thousand connectors come back to is slow to answer, and a link over WebSocket would have to be opened once more soon.
	quicLead      = time.Second
	quicLeadKnown = 3 * time.Second
	// dialTimeout bounds one attempt with both transports.
	dialTimeout = 20 * time.Second
	// freshTrip is how old the last round trip of a link may be that counts as up.
	freshTrip = 10 * time.Second
)

// links is the set of links to one edge: a lane for exchanges, and one for large bodies over TCP connections of their own.
type links struct {
	edge     string // its URL
	listed   func(*tunnelv1.Edges)
	open     controlclient.Config
	dials    *dials
	identity Identity
	gate     *gate
	origins  func() []*tunnelv1.OriginHealth
	logger   *zap.Logger
	attempts *prometheus.CounterVec
	lanes    []*lane
	fixed    string // Config.Transport
	// fastUp is since when the fast lane has had a link that takes exchanges, Unix nanoseconds; 0: it has none.
	fastUp atomic.Int64

	mu      sync.Mutex // guards all below
	held    []*held
	leaving bool
}

// shared is what the links to all edges have in common.
type shared struct {
	cfg      Config
	identity Identity
	open     controlclient.Config
	dials    *dials
	gate     *gate
	origins  func() []*tunnelv1.OriginHealth
	listed   func(*tunnelv1.Edges)
	logger   *zap.Logger
	attempts *prometheus.CounterVec
	shrink   shrinking
}

func newLinks(s *shared, edge string, target tunnel.Target) *links {
	l := &links{
		edge: edge, listed: s.listed, open: s.open, dials: s.dials, identity: s.identity, gate: s.gate, origins: s.origins,
		logger: s.logger.With(zap.String("edge", edge)), fixed: s.cfg.Transport, attempts: s.attempts,
	}
	d := newDialers(s.cfg, target)
	l.lanes = append(l.lanes, newLane(l, tunnelv1.Lane_LANE_FAST, d.fast, s.shrink))
	l.lanes[0].better = d.better
	if d.bulk != nil {
		l.lanes = append(l.lanes, newLane(l, tunnelv1.Lane_LANE_BULK, d.bulk, s.shrink))
	}
	return l
}

type dialFunc = func(ctx context.Context) (tunnel.Link, error)

// dialers are the ways to the edge, by lane. bulk is nil where TCP may not be used: then everything stays on QUIC. better is QUIC
// alone where fast may bring a link over WebSocket instead.
type dialers struct{ fast, bulk, better dialFunc }

func newDialers(cfg Config, target tunnel.Target) dialers {
	overQUIC, overTCP := cfg.QUIC, cfg.WebSocket
	if overQUIC == nil {
		overQUIC = &quiclink.Dialer{}
	}
	if overTCP == nil {
		overTCP = &wslink.Dialer{}
	}
	tcp := func(ctx context.Context) (tunnel.Link, error) { return overTCP.Dial(ctx, target) }
	large := target
	large.Bulk = true
	bulk := func(ctx context.Context) (tunnel.Link, error) { return overTCP.Dial(ctx, large) }
	quic := func(ctx context.Context) (tunnel.Link, error) { return overQUIC.Dial(ctx, target) }
	switch cfg.Transport {
	case TransportQUIC:
		return dialers{fast: quic}
	case TransportWebSocket:
		return dialers{fast: tcp, bulk: bulk}
	}
	return dialers{bulk: bulk, better: quic, fast: either(target, overQUIC, overTCP)}
}

// believed is how many refusals over QUIC are believed in a row: nothing proves that the edge sent them, and somebody who can
// forge them must not keep a connector from trying TCP.
const believed = 3

// either dials over QUIC, and over TCP where that does not come up, or the other way round after too many refusals.
func either(target tunnel.Target, overQUIC, overTCP tunnel.Dialer) dialFunc {
	var refused atomic.Int64
	var known atomic.Bool // the last link was over QUIC
	return func(ctx context.Context) (tunnel.Link, error) {
		first, second, lead := overQUIC, overTCP, quicLead
		if known.Load() {
			lead = quicLeadKnown
		}
		if refused.Load() >= believed {
			refused.Store(0)
			first, second = overTCP, overQUIC
		}
		link, err := tunnel.Race(ctx, target, first, second, lead)
		if tunnel.ComeBack(err) > 0 {
			refused.Add(1)
		} else {
			refused.Store(0)
		}
		if err == nil {
			known.Store(link.Info().Transport == overQUIC.Transport())
		}
		return link, err
	}
}

// run keeps every lane up until ctx ends (then the links are closed and it returns nil) or the enrolment is revoked.
func (l *links) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, lane := range l.lanes {
		wg.Go(func() {
			if err := lane.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if errors.Is(context.Cause(ctx), ErrRevoked) {
		return ErrRevoked
	}
	return nil
}

// count adds the links that had a round trip lately, by lane and transport.
func (l *links) count(up map[[2]string]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lane := range l.lanes {
		for _, transport := range []string{TransportQUIC, TransportWebSocket} {
			up[[2]string{laneName(lane.kind), transport}] += 0
		}
	}
	for _, h := range l.held {
		if _, fresh := h.trip(); fresh {
			up[[2]string{laneName(h.lane), h.Info().Transport}]++
		}
	}
}

// connect opens a link; errPaused says that none may be opened now.
func (l *links) connect(ctx context.Context, lane tunnelv1.Lane, dial dialFunc) (*controlclient.Link, error) {
	ctx, instance, end, ok := l.dials.begin(ctx)
	if !ok {
		return nil, errPaused
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	open := l.open
	open.Lane, open.Instance = lane, instance
	link, err := controlclient.Open(ctx, raw, open)
	if err != nil {
		if errors.Is(err, controlclient.ErrNotOurEdge) {
			l.logger.Error("the peer is not our edge", zap.Error(err))
		}
		return nil, err
	}
	if link.Tenant != l.identity.Tenant || link.Site != l.identity.Site {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "registered for another tenant or site than enrolled for"})
		return nil, fmt.Errorf("%w: it registered this connector for %s/%s", controlclient.ErrNotOurEdge, link.Tenant, link.Site)
	}
	return link, nil
}

// hold notes a link that is up; drop forgets it.
func (l *links) hold(h *held) {
	l.mu.Lock()
	l.held = append(l.held, h)
	leaving := l.leaving
	l.mu.Unlock()
	if leaving {
		_ = h.Leave(0)
	}
}

func (l *links) drop(h *held) {
	l.mu.Lock()
	for i, other := range l.held {
		if other == h {
			l.held = append(l.held[:i], l.held[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
}

// leave tells the edge to send no more exchanges on any link; with succeeded, not on those to an edge process that drains: to that
// the successor has no link, and what still comes there has nobody else. None is opened after it.
func (l *links) leave(within time.Duration, succeeded bool) {
	l.mu.Lock()
	l.leaving = true
	all := slices.DeleteFunc(slices.Clone(l.held), func(h *held) bool { return succeeded && h.emptied.Load() })
	l.mu.Unlock()
	for _, lane := range l.lanes {
		lane.wake()
	}
	var wg sync.WaitGroup
	for _, h := range all {
		wg.Go(func() {
			if err := h.Leave(within); err != nil {
				l.logger.Warn("the edge could not be told that this connector stops", zap.Error(err))
			}
		})
	}
	wg.Wait()
}

// finish returns once nothing has run on any link for linger, or ctx ends. No body moves to them any more: there may be other links to
// the same edge by now, which this connector has come back to, and whose exchanges must not end with these.
func (l *links) finish(ctx context.Context, linger time.Duration) {
	tick := time.NewTicker(linger / 10)
	defer tick.Stop()
	for quiet := 0; quiet < 10; quiet++ {
		if l.busy() {
			quiet = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// busy reports whether something runs on a link, and keeps bodies from moving to any, those that came up late too.
func (l *links) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := false
	for _, h := range l.held {
		l.gate.peers.retire(h.Link)
		busy = busy || !h.work.idle()
	}
	return busy
}

// fresh returns the fast link that had a round trip last, if that is no older than 10 s.
func (l *links) fresh() (transport string, trip time.Duration, ok bool) {
	for _, s := range l.status() {
		if s.Up && s.Lane == laneName(tunnelv1.Lane_LANE_FAST) && (!ok || !s.draining) {
			transport, trip, ok = s.Transport, s.trip, true
		}
	}
	return transport, trip, ok
}

// emptied reports whether there is a link to an edge process that drains.
func (l *links) emptied() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.held, func(h *held) bool { return h.emptied.Load() })
}

func (l *links) isLeaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving
}
