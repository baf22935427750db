package edge

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// front is the HTTP server of the one port, and how it leaves without losing a request.
//
// http.Server.Shutdown closes idle connections at once: a request that is on its way on one is lost, and so is one on an
// HTTP/2 connection that has not been told. Here idle connections stay open for a while; whoever uses one gets its answer
// with Connection: close, or has got a GOAWAY (http2Server), and comes back on a new connection.
type front struct {
	*http.Server
	http2 *http2Server

	mu    sync.Mutex // guards both
	open  map[net.Conn]struct{}
	empty chan struct{} // closed when leaving and no connection is left
	gone  bool
}

// newFront makes the server. server must be complete but for TLSNextProto and ConnState.
func newFront(server *http.Server) (*front, error) {
	f := &front{Server: server, open: map[net.Conn]struct{}{}, empty: make(chan struct{})}
	server.ConnState = f.track
	var err error
	f.http2, err = serveHTTP2(server)
	return f, err
}

// track counts connections that are net/http's; one that was hijacked is its handler's.
func (f *front) track(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch state {
	case http.StateNew:
		f.open[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(f.open, c)
	default:
		return
	}
	f.settle()
}

// settle is called under mu.
func (f *front) settle() {
	if f.gone && len(f.open) == 0 {
		select {
		case <-f.empty:
		default:
			close(f.empty)
		}
	}
}

// settleAfter is how long what a client sent before it read the first GOAWAY may be on its way.
const settleAfter = time.Second

// leave waits until every connection has ended by itself, at most until ctx ends.
func (f *front) leave(ctx context.Context) {
	f.http2.announce()
	f.mu.Lock()
	f.gone = true
	f.settle()
	f.mu.Unlock()
	settled := time.NewTimer(settleAfter)
	defer settled.Stop()
	for {
		select {
		case <-f.empty:
			return
		case <-ctx.Done():
			return
		case <-settled.C:
			f.http2.last()
		}
	}
}

// Drain of the edge, in this order, because each step needs those after it to work still:
//
//  1. not ready; answers end their connections, and for drain.announce new ones are taken still; then HTTP/2 connections are
//     told to go away
//  2. the connectors are told: they open links to whoever listens now, and keep those here
//  3. browsers' connections end: those with a request when it is answered, idle ones when they are used once more or after
//     idleLinger; at the latest after drain.requests
//  4. upgraded connections (an app's WebSockets) end, at the latest after drain.upgraded
//  5. links close; the record is written; the store closes
const idleLinger = 2 * time.Second

// drain is steps 1 to 4.
func (e *Edge) drain(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(e.cut, cancel)
	defer stop()
	began := time.Now()
	succeeded := e.succeeded.Load()
	e.draining.Store(true)
	if !succeeded {
		e.notifier.Stopping()
	}
	e.logger.Info("edge drains", zap.Bool("successor", succeeded), zap.Int64("requests", e.ordinary.Load()), zap.Int("leases", e.access.Leases()))
	if e.heart != nil {
		e.heart.Drain(succeeded)
		e.tellEdges() // and so connectors know of the others before they are told that this one drains
	}
	if !succeeded {
		e.announce(ctx)
	}
	e.place.tcp.Leave()
	e.control.Drain(e.current().Drain.Requests)
	e.leaveFront(ctx, succeeded)
	left := e.awaitUpgraded(ctx, began)
	e.logger.Info("edge has drained", zap.Duration("took", time.Since(began)), zap.Int("cut", left))
}

// announce goes on as before, but for saying that it is not ready.
func (e *Edge) announce(ctx context.Context) {
	wait := time.NewTimer(e.current().Drain.Announce)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// leaveFront is step 3.
func (e *Edge) leaveFront(ctx context.Context, succeeded bool) {
	ctx, cancel := context.WithTimeout(ctx, e.current().Drain.Requests)
	defer cancel()
	if succeeded { // whoever comes back finds the successor, so there is no hurry
		e.front.leave(ctx)
	} else {
		idle, done := context.WithTimeout(ctx, idleLinger)
		e.front.leave(idle)
		done()
	}
	_ = e.front.Shutdown(ctx) // closes what is idle still, waits for what is not
}

// awaitUpgraded is step 4; it returns how many were left.
func (e *Edge) awaitUpgraded(ctx context.Context, began time.Time) int {
	ctx, cancel := context.WithDeadline(ctx, began.Add(e.current().Drain.Upgraded))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := e.access.Leases()
		if left == 0 {
			return 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

// leaving counts requests, and while the edge drains has each answer end its connection. On HTTP/2 the field would be
// a GOAWAY that loses requests; http2Server sends better ones.
func (e *Edge) leaving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.ordinary.Add(1)
		defer e.ordinary.Add(-1)
		if e.draining.Load() && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Cut ends a drain that is under way, at once.
func (e *Edge) Cut() { e.cutNow() }
