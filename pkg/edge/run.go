package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

// Run serves until ctx ends, then drains: no new links and requests, and 30 s for what is under way. Later parts stand on
// earlier ones and stop before them: the record is the last thing to end before the store.
func (e *Edge) Run(ctx context.Context) error {
	socket, err := adminapi.Listen(ctx, e.config.Socket())
	if err != nil {
		return errors.Join(err, e.Close())
	}
	loopback, err := new(net.ListenConfig).Listen(ctx, "tcp", e.config.Loopback)
	if err != nil {
		return errors.Join(fmt.Errorf("loopback listen: %w", err), socket.Close(), e.Close())
	}
	public := e.publicServer()
	notifier := service.NewNotifier()
	group := &run.Group{}
	for _, part := range []run.Part{
		{Name: "record", Run: e.recorder.Run},
		{Name: "exchanges", Run: e.concluded},
		{Name: "changes", Run: e.follower.Run},
		{Name: "housekeeping", Run: e.housekeeping},
		{Name: "certificates", Run: e.certs.Run},
		{Name: "configuration", Run: e.reloader.run},
		{Name: "mail", Run: e.outbox.Run, Drain: e.outbox.Drain},
		{Name: "administration", Run: func(ctx context.Context) error { return adminapi.New(e.admin(), e.logger).Serve(ctx, socket) }},
		{Name: "loopback", Run: func(ctx context.Context) error { return serveLoopback(ctx, loopback, e.loopbackHandler(), e.logger) }},
		{Name: "links", Run: e.links.Run, Drain: func(ctx context.Context) { e.control.Drain(run.DefaultDrainTimeout) }},
		{
			Name: "requests", Run: func(ctx context.Context) error { return serve(ctx, public, e.limits.Listener(e.sockets.tcp)) },
			Drain: func(ctx context.Context) { _ = public.Shutdown(ctx) },
		},
		{Name: "requests over HTTP/3", Run: e.serveHTTP3, Drain: e.drainHTTP3},
		{
			Name: "service manager", Run: func(ctx context.Context) error { return notifier.Watch(ctx, e.status) },
			Drain: func(context.Context) { notifier.Stopping() },
		},
	} {
		group.Add(part)
	}
	e.logger.Info("edge runs", zap.String("version", build.Version()), zap.Stringer("listen", e.Addr()),
		zap.Bool("quic", e.sockets.udp != nil), zap.Bool("http3", e.altSvc != nil), zap.Stringer("loopback", loopback.Addr()), zap.String("host", e.config.Host))
	notifier.Ready()
	err = group.Run(ctx)
	e.logger.Info("edge stopped", zap.Error(err))
	return errors.Join(err, e.Close())
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
		if err := errors.Join(e.store.Codes().Purge(ctx, time.Now()), e.keyring.Reload(ctx)); err != nil && ctx.Err() == nil {
			e.logger.Error("housekeeping failed", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
