package edge

import (
	"context"
	"encoding/json"
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

// ready answers 200 when requests can be served.
func (e *Edge) ready(w http.ResponseWriter, r *http.Request) {
	links, _ := e.registry.Links()
	answer := readiness{Status: "ready", Links: links, Hosts: e.routes.Load().Hosts(), Config: e.reloader.Status()}
	status := http.StatusOK
	able, why := e.able(r.Context())
	if answer.Reason = why; !able {
		answer.Status, status = "not ready", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// able reports whether requests can be judged and recorded: the store answers or, where edges share it, has been away for no longer
// than the grace, and the edge does not drain. Routes are loaded before anything is served. why may say something of a yes, too.
func (e *Edge) able(ctx context.Context) (able bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if e.draining.Load() {
		return false, "draining"
	}
	if _, err := e.follower.CaughtUp(ctx); err == nil {
		return true, ""
	}
	since, _ := e.follower.Silence()
	if left := e.config.Cluster.Grace - since; e.store.Shared() && left > 0 {
		return true, fmt.Sprintf("the store does not answer: who is signed in may go on for %s", left.Round(time.Second))
	}
	return false, "the store does not answer"
}

// serveLoopback serves h until ctx ends.
func serveLoopback(ctx context.Context, l net.Listener, h http.Handler, logger *zap.Logger) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: zap.NewStdLog(logger)}
	return servePlain(ctx, server, l)
}

// status is the line that the service manager shows.
func (e *Edge) status() string {
	links, _ := e.registry.Links()
	return fmt.Sprintf("%d links, %d hosts, %d requests under way", links, e.routes.Load().Hosts(), e.access.Leases())
}
