package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

const (
	// healthFresh is how long an answer stands, so that whoever asks more often costs the store nothing.
	healthFresh = time.Second
	// healthConnections is how many may be open at a time; load balancers ask one after another.
	healthConnections = 64
)

// health answers a load balancer: whether this edge is to get connections, and nothing else. Anybody may be able to ask.
type health struct {
	able func(context.Context) (bool, string)
	now  func() time.Time

	mu   sync.Mutex // held while the answer is found, so that one question is on its way at a time
	last bool
	at   time.Time
}

// ServeHTTP implements http.Handler.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/ready" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	status, text := http.StatusOK, "ready\n"
	if !h.ready() {
		status, text = http.StatusServiceUnavailable, "not ready\n"
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (h *health) ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.now(); now.Sub(h.at) >= healthFresh {
		h.last, _ = h.able(context.Background()) // not the caller's: the answer is for others too
		h.at = now
	}
	return h.last
}

// serveHealth serves the load balancer's port until ctx ends, where there is one.
func (e *Edge) serveHealth(ctx context.Context) error {
	if e.place.health == nil {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{
		Handler: &health{able: e.able, now: time.Now}, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 4 << 10, ErrorLog: zap.NewStdLog(e.logger),
	}
	return servePlain(ctx, server, netutil.LimitListener(e.place.health, healthConnections))
}

// servePlain serves HTTP without TLS until ctx ends.
func servePlain(ctx context.Context, server *http.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
