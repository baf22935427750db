package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/handover"
	"github.com/sallyport-dev/sallyport/pkg/run"
)

// Run serves until ctx ends or a successor has the place, then drains (front.go). Later parts stand on
// earlier ones and stop before them: the record is the last thing to end before the store.
func (e *Edge) Run(ctx context.Context) error {
	if err := e.complete(ctx); err != nil {
		return errors.Join(err, e.close(err))
	}
	var err error
	if e.front, err = newFront(e.publicServer()); err != nil {
		return errors.Join(err, e.close(err))
	}
	insideServer := e.insideServer()
	public, err := e.behindBalancers(e.place.tcp)
	if err != nil {
		return errors.Join(err, e.close(err))
	}
	if err := e.place.take(ctx); err != nil {
		return errors.Join(err, e.close(err))
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	group := &run.Group{DrainTimeout: func() time.Duration { return e.current().Drain.whole() }}
	for _, part := range []run.Part{
		{Name: "spool of the record", Run: e.mergeSpool},
		{Name: "record", Run: e.recorder.Run},
		{Name: "exchanges", Run: e.concluded},
		{Name: "changes", Run: e.follower.Run},
		{Name: "trust in copies", Run: e.access.Run},
		{Name: "hints of changes", Run: func(ctx context.Context) error { return e.store.Listen(ctx, e.follower.Kick) }},
		{Name: "membership", Run: e.membership},
		{Name: "spread of connectors", Run: e.spread},
		{Name: "revocations", Run: e.revoker.Run},
		{Name: "housekeeping", Run: e.housekeeping},
		{Name: "certificates", Run: e.certs.Run},
		{Name: "configuration", Run: e.reloader.Run},
		{Name: "mail", Run: e.outbox.Run, Drain: e.outbox.Drain},
		{Name: "administration", Run: func(ctx context.Context) error { return adminapi.New(e.admin(), e.logger).Serve(ctx, e.place.admin) }},
		{Name: "loopback", Run: func(ctx context.Context) error {
			return serveLoopback(ctx, e.place.loopback, e.loopbackHandler(), e.logger)
		}},
		{Name: "health", Run: e.serveHealth},
		{Name: "links", Run: e.links.Run},
		{Name: "connections inside", Run: func(ctx context.Context) error { return serve(ctx, insideServer, e.inside) }, Drain: func(ctx context.Context) {
			_ = insideServer.Shutdown(ctx)
		}},
		{Name: "other edges", Run: e.runPeers, Drain: e.drainPeers},
		{Name: "requests", Run: func(ctx context.Context) error {
			return serve(ctx, e.front.Server, comers{e.limits.Listener(public)})
		}, Drain: e.drain},
		{Name: "requests over HTTP/3", Run: e.serveHTTP3, Drain: e.drainHTTP3},
		{Name: "hand-over", Run: func(ctx context.Context) error { return e.handOver(ctx, leave) }},
		{Name: "service manager", Run: func(ctx context.Context) error { return e.notifier.Watch(ctx, e.status) }},
	} {
		group.Add(part)
	}
	e.logger.Info("edge runs", zap.String("version", build.Version()), zap.Stringer("listen", e.Addr()),
		zap.Bool("quic", e.place.udp != nil), zap.Bool("http3", e.altSvc != nil), zap.Stringer("loopback", e.place.loopback.Addr()), zap.String("host", e.config.Host))
	e.notifier.Ready()
	err = group.Run(ctx)
	e.logger.Info("edge stopped", zap.Error(err))
	return errors.Join(err, e.Close())
}

// handOver answers at the hand-over socket until ctx ends; leave begins the drain once a successor has the place.
func (e *Edge) handOver(ctx context.Context, leave func()) error {
	yielded := make(chan struct{})
	host := &handover.Host{
		Listener: e.place.handover, Software: build.Version(), Offer: e.offer, Withdraw: e.withdraw, Logger: e.logger,
		Yield: func(successor int) {
			e.succeeded.Store(true)
			e.yield(successor)
			close(yielded)
		},
		Restart: func(ctx context.Context) error { return handover.Start(ctx, yielded) },
		Count:   func(result string) { e.place.result.WithLabelValues(result).Inc() },
	}
	gone, err := host.Serve(ctx)
	if gone {
		leave()
		<-ctx.Done()
	}
	return err
}

// serve serves TLS on a listener until ctx ends; by then Shutdown was called, and what is still there is cut.
func serve(ctx context.Context, server *http.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ctx.Done()
	return nil
}

// serveHTTP3 waits for ctx to end, then cuts what browsers still have over HTTP/3. That they come in at all is the work of
// links, which accepts for both.
func (e *Edge) serveHTTP3(ctx context.Context) error {
	<-ctx.Done()
	if e.quic != nil {
		e.quic.CloseHTTP3()
	}
	return nil
}

func (e *Edge) drainHTTP3(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.current().Drain.Requests)
	defer cancel()
	stop := context.AfterFunc(e.cut, cancel)
	defer stop()
	if e.quic != nil {
		e.quic.DrainHTTP3(ctx)
	}
}

// concludeLimit is how long exchanges that were cut have to conclude; it is less than a part of the process has.
const concludeLimit = 3 * time.Second

// concluded returns when ctx has ended and no exchange is left. Those over WebSockets are not the HTTP server's to wait for,
// and what becomes of any is on record only if the recorder outlives it.
func (e *Edge) concluded(ctx context.Context) error {
	<-ctx.Done()
	limit, tick := time.NewTimer(concludeLimit), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for e.access.Leases() > 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			return nil
		}
	}
	return nil
}

// housekeepEvery is how often what has expired is deleted.
const housekeepEvery = 10 * time.Minute

// housekeeping deletes what has expired and moves signing keys on; a failure waits for the next turn.
func (e *Edge) housekeeping(ctx context.Context) error {
	tick := time.NewTicker(housekeepEvery)
	defer tick.Stop()
	for {
		if err := errors.Join(e.store.Codes().Purge(ctx, e.clock.Now()), e.keyring.Reload(ctx)); err != nil && ctx.Err() == nil {
			e.logger.Error("housekeeping failed", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
