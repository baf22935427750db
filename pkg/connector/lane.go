package connector

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// replaceWithin bounds the wait before a link is opened in place of one that the edge drains: jittered, so that a thousand
// connectors of one edge do not come at once, and far below any drain.
const replaceWithin = time.Second

func laneName(l tunnelv1.Lane) string {
	return strings.ToLower(strings.TrimPrefix(l.String(), "LANE_"))
}

// held is a link that is up.
type held struct {
	*controlclient.Link
	lane  tunnelv1.Lane
	way   int // lane.way when it was dialled
	since time.Time
	work  work
	// draining is set when the edge or this side empties it: it serves what comes until it closes. Guarded by lane.mu.
	draining bool
	// emptied is set when the edge empties it, because its process ends.
	emptied atomic.Bool
}

// trip is the last round trip, and whether it is recent enough to count as up.
func (h *held) trip() (took time.Duration, fresh bool) {
	at, took := h.RoundTrip()
	return took, !at.IsZero() && time.Since(at) <= freshTrip
}

// lane keeps links of its kind up: one, and more under load. It is the one place that waits between attempts.
//
//	too few → dial → serve ─ drain notice → dial the next one ─ the edge closes the old one
//	   ↑        │ failed       │ ended
//	   └─ wait ─┴──────────────┘
type lane struct {
	*links
	kind    tunnelv1.Lane
	waken   chan struct{}
	improve chan struct{}

	mu   sync.Mutex // guards all below
	dial dialFunc
	// better dials over QUIC alone, for a lane that may have to make do with WebSocket; nil where there is no choice.
	better  dialFunc
	way     int // counts how often links had to be opened anew: by other dialers, or as another run
	backoff tunnel.Backoff
	size    size
	shrink  shrinking
	late    time.Duration // how long after the fast lane this one dials, having lost its links
	serving []*held       // links that are up and not draining
	former  []*held       // links that others have taken the place of, to be retired
	due     time.Time     // when the next attempt may be made
	asked   time.Time     // before which the edge asked not to dial
	abort   func()        // gives up the dial that runs; nil while none does
	revoked bool
	renew   bool   // the next link takes the place of those that were dialled before way was counted up
	problem string // why the lane has no link; empty while it has

	// wanted ends the wait of a bulk lane for its turn.
	wanted atomic.Bool
}

func newLane(l *links, kind tunnelv1.Lane, dial dialFunc, shrink shrinking) *lane {
	s := size{most: maxFast, load: fastLoad, quiet: shrink.fast}
	if kind == tunnelv1.Lane_LANE_BULK {
		s = size{most: maxBulk, quiet: shrink.bulk}
	}
	return &lane{
		links: l, kind: kind, dial: dial, size: s, shrink: shrink,
		waken: make(chan struct{}, 1), improve: make(chan struct{}, 1),
	}
}

func (l *lane) wake() {
	select {
	case l.waken <- struct{}{}:
	default:
	}
}

// run dials whenever the lane has too few links that take exchanges, and gives up those that are too many, until ctx ends or the
// enrolment is revoked.
func (l *lane) run(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { l.upgrade(ctx, &serving) })
	for ctx.Err() == nil {
		wait, surplus, revoked := l.next(time.Now())
		if surplus != nil {
			serving.Go(func() { l.retire(surplus) })
			continue
		}
		switch {
		case revoked:
			return ErrRevoked
		case wait == 0:
			l.attempt(ctx, &serving)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.waken:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// idle is how long a lane that needs nothing waits for a wake.
const idle = time.Hour

// next tells how long to wait before the next attempt, 0 for now, or which link is one too many or has been replaced; that one
// takes nothing new from now on.
func (l *lane) next(now time.Time) (wait time.Duration, surplus *held, revoked bool) {
	leaving := l.isLeaving() || l.dials.isPaused()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revoked {
		return 0, nil, true
	}
	if leaving {
		return idle, nil, false
	}
	if len(l.former) > 0 {
		surplus, l.former = l.former[0], l.former[1:]
		return 0, surplus, false
	}
	if l.renew {
		return max(l.due.Sub(now), 0), nil, false
	}
	running := 0
	for _, h := range l.serving {
		running += h.demand(l.shrink.local)
	}
	longest := idle
	if l.kind == tunnelv1.Lane_LANE_BULK && slices.ContainsFunc(l.serving, (*held).slow) {
		longest = min(l.shrink.warm/4, 5*time.Second)
		if now.Sub(l.gate.running.lately()) < l.shrink.warm {
			running = max(running, 1)
		}
	}
	want := l.size.step(now, running, len(l.serving))
	switch {
	case len(l.serving) > want:
		return 0, l.surplus(), false
	case len(l.serving) == want:
		return min(l.size.watch(running), longest), nil, false
	}
	return max(l.due.Sub(now), l.turn(now), 0), nil, false
}

// turn is how long a bulk lane that lost its links waits for its turn: until some time after the fast lane is up, or until an
// exchange comes. After a restart of an edge a thousand connectors need one link each first. The caller holds mu.
func (l *lane) turn(now time.Time) time.Duration {
	if l.late == 0 || l.wanted.Load() || len(l.serving) > 0 {
		return 0
	}
	up := l.fastUp.Load()
	if up == 0 {
		return idle // begin of the fast lane ends it
	}
	return time.Unix(0, up).Add(l.late).Sub(now)
}

// want has the bulk lanes dial now if they wait for their turn.
func (l *links) want() {
	for _, other := range l.lanes {
		if other.kind == tunnelv1.Lane_LANE_BULK && other.wanted.CompareAndSwap(false, true) {
			other.wake()
		}
	}
}

// surplus takes the link out that has the least to do; the caller holds mu.
func (l *lane) surplus() *held {
	least := slices.MinFunc(l.serving, func(a, b *held) int {
		return cmp.Compare(a.work.in.Load()+a.work.out.Load(), b.work.in.Load()+b.work.out.Load())
	})
	l.empty(least)
	return least
}

// empty counts a link no longer; the caller holds mu.
func (l *lane) empty(h *held) {
	h.draining = true
	l.serving = slices.DeleteFunc(l.serving, func(other *held) bool { return other == h })
	if len(l.serving) > 0 {
		return
	}
	if l.kind == tunnelv1.Lane_LANE_FAST {
		l.fastUp.Store(0)
		return
	}
	l.late = 1 + rand.N(l.shrink.spread)
	l.wanted.Store(false)
}

// retire closes a link that is one too many, or was replaced, once nothing has run on it for a while, so that nothing is lost.
func (l *lane) retire(h *held) {
	l.gate.peers.retire(h.Link)
	if err := h.Leave(0); err != nil {
		return // it has ended
	}
	tick := time.NewTicker(l.shrink.linger / 10)
	defer tick.Stop()
	for quiet := 0; quiet < 10; quiet++ {
		select {
		case <-h.Done():
			return
		case <-tick.C:
		}
		if !h.work.idle() {
			quiet = 0
		}
	}
	_ = h.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "this link is not needed any more"})
}

// attempt dials once and leaves a link that is up to a goroutine of its own.
func (l *lane) attempt(ctx context.Context, serving *sync.WaitGroup) {
	dial, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.abort = cancel
	how, way := l.dial, l.way
	l.mu.Unlock()
	link, err := l.connect(dial, l.kind, how)
	l.mu.Lock()
	l.abort = nil
	l.mu.Unlock()
	if err != nil && l.dials.isPaused() {
		return
	}
	if err != nil {
		l.attempts.WithLabelValues(laneName(l.kind), "failed").Inc()
		if ctx.Err() == nil && dial.Err() == nil {
			l.again(err, 0)
		}
		return
	}
	l.begin(ctx, link, way, serving)
}

// begin serves a link that is up, in place of old ones if there are any: over QUIC in place of those that had to make do with
// WebSocket, whether it was dialled for that or because the lane grows.
func (l *lane) begin(ctx context.Context, link *controlclient.Link, way int, serving *sync.WaitGroup) {
	l.attempts.WithLabelValues(laneName(l.kind), "up").Inc()
	h := &held{Link: link, lane: l.kind, way: way, since: time.Now(), work: work{woken: l.wake, load: int64(l.size.load)}}
	if l.kind == tunnelv1.Lane_LANE_FAST {
		h.work.used = l.want
	}
	info := link.Info()
	l.logger.Info("link up", zap.String("lane", laneName(l.kind)), zap.String("transport", info.Transport), zap.String("tls_opened_by", info.OpenedBy),
		zap.Uint64("generation", link.Generation), zap.Duration("clock_offset", l.open.Clock.Offset()))
	var old []*held
	if info.Transport == TransportQUIC {
		old = l.second()
	}
	l.mu.Lock()
	if l.renew && way == l.way {
		l.renew = false
		old = append(old, slices.DeleteFunc(slices.Clone(l.serving), func(o *held) bool { return o.way == way })...)
	}
	l.serving = append(l.serving, h)
	l.problem = ""
	for _, o := range old {
		l.replace(o)
	}
	first := len(l.serving) == 1
	l.mu.Unlock()
	l.hold(h)
	if first && l.kind == tunnelv1.Lane_LANE_FAST {
		l.fastUp.Store(h.since.UnixNano())
		for _, other := range l.lanes {
			other.wake()
		}
	}
	serving.Go(func() { l.serve(ctx, h) })
}

// serve serves one link until it ends.
func (l *lane) serve(ctx context.Context, h *held) {
	var streams sync.WaitGroup
	streams.Go(func() { l.gate.serve(h.Link, &h.work) })
	err := h.Serve(ctx, controlclient.Handlers{
		Revoke: l.gate.revoke, Origins: l.origins, Edges: l.listed, Drain: func(within time.Duration) { l.drained(h, within) },
	})
	l.drop(h)
	l.mu.Lock()
	replaced := h.draining
	if !replaced {
		l.empty(h)
	}
	l.mu.Unlock()
	if ctx.Err() == nil && !replaced {
		l.again(err, time.Since(h.since))
	}
	streams.Wait()
}

// drained is the edge's word that it empties a link: the next one is opened before this one closes.
func (l *lane) drained(h *held, within time.Duration) {
	h.emptied.Store(true)
	l.logger.Info("the edge drains", zap.String("lane", laneName(l.kind)), zap.Duration("within", within))
	l.mu.Lock()
	if !h.draining {
		l.empty(h)
		l.backoff = tunnel.Backoff{}
		l.due = time.Now().Add(l.backoff.Next(time.Now(), 0, 0))
		if most := min(replaceWithin, within/4); within > 0 && time.Until(l.due) > most {
			l.due = time.Now().Add(most)
		}
	}
	l.mu.Unlock()
	l.wake()
}

// again plans the next attempt after a dial that failed, or a link that ended after it was up for upFor.
func (l *lane) again(err error, upFor time.Duration) {
	code, retry := ending(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.wake()
	now := time.Now()
	l.problem = err.Error()
	switch code {
	case tunnel.ReasonRevoked:
		l.revoked = true
		l.logger.Error("enrolment revoked", zap.Error(err))
		return
	case tunnel.ReasonShutdown, tunnel.ReasonDrain:
		// The edge went in good order and will be back, or another process serves in its place already.
		if upFor > 0 {
			l.backoff = tunnel.Backoff{}
		}
	}
	wait := l.backoff.Next(now, upFor, retry)
	l.due = now.Add(wait)
	if retry > 0 {
		l.asked = now.Add(min(retry, wait))
	}
	l.logger.Warn("no link to the edge; dialling again", zap.String("lane", laneName(l.kind)), zap.Error(err),
		zap.Duration("in", wait), zap.Duration("lasted", upFor))
}

// ending tells what the edge said when a link ended or was refused; code is empty when it said nothing.
func ending(err error) (code string, retry time.Duration) {
	var refused *controlclient.RefusedError
	var closed *tunnel.ClosedError
	switch {
	case errors.As(err, &refused):
		return refused.Code, refused.RetryAfter
	case errors.As(err, &closed) && closed.Remote:
		return closed.Reason.Code, closed.Reason.RetryAfter
	}
	return "", 0
}
