package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// loopbackHandler serves what is for this machine alone: metrics and readiness. No tenant's host leads here.
func (e *Edge) loopbackHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.metrics.Handler())
	mux.HandleFunc("GET /ready", e.ready)
	return mux
}

// readiness is the answer of /ready.
type readiness struct {
	Status string `json:"status"` // "ready" or "not ready"
	Reason string `json:"reason,omitempty"`
	Links  int    `json:"links"`
	Hosts  int    `json:"hosts"`
	// Config says why the newest configuration is not in force, "rejected: …" or "needs edge restart: KEYS"; requests are judged
	// and recorded all the same.
	Config string `json:"config,omitempty"`
}

// ready answers 200 when requests can be judged and recorded, that is when the store answers and its changes are followed.
func (e *Edge) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := readiness{Status: "ready", Links: len(e.registry.Members("")), Hosts: e.routes.Load().Hosts(), Config: e.reloader.status()}
	status := http.StatusOK
	if _, err := e.follower.CaughtUp(ctx); err != nil {
		answer.Status, answer.Reason, status = "not ready", "the store does not answer", http.StatusServiceUnavailable
	}
	if e.draining.Load() {
		answer.Status, answer.Reason, status = "not ready", "draining", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// serveLoopback serves h until ctx ends.
func serveLoopback(ctx context.Context, l net.Listener, h http.Handler, logger *zap.Logger) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: zap.NewStdLog(logger)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// status is the line that the service manager shows.
func (e *Edge) status() string {
	return fmt.Sprintf("%d links, %d hosts, %d requests under way", len(e.registry.Members("")), e.routes.Load().Hosts(), e.access.Leases())
}
