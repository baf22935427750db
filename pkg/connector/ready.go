package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// States of Status.
const (
	StatusReady    = "ready"    // a link is up and the origins answered lately
	StatusNoLink   = "no-link"  // the edge is not reached
	StatusNoRules  = "no-rules" // the link is up, and there is neither an ingress file nor rules from the edge
	StatusOrigin   = "origin"   // the link is up, a rule has no origin that answers
	StatusDraining = "draining" // finishing what runs
)

// Status is what /ready answers, as JSON; 200 when Status is ready, 503 otherwise.
type Status struct {
	Status           string       `json:"status"`
	ReadyConnections int          `json:"readyConnections"`
	ConnectorID      id.Connector `json:"connectorId"`
	// Protocol is the transport of the fast lane: quic or websocket.
	Protocol string `json:"protocol,omitempty"`
	// RoundTripMS is how long the last heartbeat took, milliseconds.
	RoundTripMS float64        `json:"roundTripMs,omitempty"`
	Origins     []OriginStatus `json:"origins"`
	// Links lists every link; Lanes says why a lane has none, or runs over WebSocket.
	Links []LinkStatus      `json:"links"`
	Lanes map[string]string `json:"lanes,omitempty"`
	// Ingress says where the rules come from, and what is wrong with newer ones.
	Ingress IngressStatus `json:"ingress"`
	// Config says what is wrong with a newer configuration, or which of its keys wait for a restart; empty when all is in force.
	Config string `json:"config,omitempty"`
	// UptimeSeconds is how long this process has run.
	UptimeSeconds int64 `json:"uptimeSeconds"`
}

// OriginStatus is one origin in Status.
type OriginStatus struct {
	Name    string `json:"name"`
	Origin  string `json:"origin"`
	Healthy bool   `json:"healthy"`
	// State is ok, busy, refused, timeout, certificate, error or unchecked; Circuit is closed, open (exchanges are refused at once)
	// or testing.
	State   string `json:"state"`
	Circuit string `json:"circuit"`
	// Problem says what the last check found; empty when it was content.
	Problem string `json:"problem,omitempty"`
	// Answered is when the origin answered last; absent when it never did.
	Answered *time.Time `json:"answered,omitempty"`
	// CheckMS is how long the last check took, milliseconds.
	CheckMS float64 `json:"checkMs,omitempty"`
	// CertificateExpires is when its certificate ends; Warning says so when that is near.
	CertificateExpires *time.Time `json:"certificateExpires,omitempty"`
	Warning            string     `json:"warning,omitempty"`
	// Running and Waiting count exchanges that it works on and that wait for it.
	Running int `json:"running"`
	Waiting int `json:"waiting"`
}

// Status tells how the connector fares now. A round trip over the exchange path within the last 10 s is what counts as a link, an
// answer within the origin's own check interval as an origin.
func (c *Connector) Status() Status {
	s := Status{ConnectorID: c.identity.Connector, Origins: []OriginStatus{}, UptimeSeconds: int64(time.Since(c.started).Seconds()), Ingress: c.rules.status(), Config: c.reloader.Status()}
	for _, h := range c.ingress.Health() {
		o := OriginStatus{
			Name: h.Name, Origin: h.Origin, Healthy: h.Healthy, State: h.State, Circuit: h.Circuit, Problem: h.Problem,
			CheckMS: float64(h.Latency.Microseconds()) / 1000, Warning: h.Warning, Running: h.Running, Waiting: h.Waiting,
		}
		if !h.Expires.IsZero() {
			o.CertificateExpires = &h.Expires
		}
		if !h.Answered.IsZero() {
			o.Answered = &h.Answered
		}
		s.Origins = append(s.Origins, o)
	}
	s.Links, s.Lanes = c.links.status(), c.links.explain()
	for _, l := range s.Links {
		if l.Up {
			s.ReadyConnections++
		}
	}
	transport, trip, up := c.links.fresh()
	if up {
		s.Protocol, s.RoundTripMS = transport, float64(trip.Microseconds())/1000
	}
	switch {
	case c.links.isLeaving():
		s.Status = StatusDraining
	case !up:
		s.Status = StatusNoLink
	case s.Ingress.From == ingressNone:
		s.Status = StatusNoRules
	case !c.ingress.Serving():
		s.Status = StatusOrigin
	default:
		s.Status = StatusReady
	}
	return s
}

// Way names the transport of the fast lane, and says so where a link goes through a firewall that opens TLS.
func (s Status) Way() string {
	if slices.ContainsFunc(s.Links, func(l LinkStatus) bool { return l.Up && l.TLSOpenedBy != "" }) {
		return s.Protocol + ", TCP through a firewall that opens TLS"
	}
	return s.Protocol
}

// summary is one line for the service manager.
func (s Status) summary() string {
	switch s.Status {
	case StatusReady:
		return fmt.Sprintf("ready over %s", s.Way())
	case StatusNoRules:
		return "linked, but there are no ingress rules: neither a file nor any from the edge"
	case StatusOrigin:
		return "linked, but an origin does not answer"
	case StatusDraining:
		return "finishing what runs"
	}
	return "no link to the edge; dialling"
}

// origins is what heartbeats tell the edge: names and states, no addresses.
func (c *Connector) origins() []*tunnelv1.OriginHealth {
	var out []*tunnelv1.OriginHealth
	for _, h := range c.ingress.Health() {
		if len(out) == maxReported {
			break
		}
		o := &tunnelv1.OriginHealth{Name: h.Name, Healthy: h.Healthy, State: h.State}
		if !h.Probed.IsZero() {
			o.CheckedMs = h.Probed.UnixMilli()
		}
		out = append(out, o)
	}
	return out
}

// maxReported is how many origins an edge takes in one heartbeat.
const maxReported = 64

// serveStatus serves /ready and /metrics on the loopback listener until ctx ends. Of two processes that share the listener only
// the one that runs does.
func (c *Connector) serveStatus(ctx context.Context) error {
	select {
	case <-c.owned:
	case <-ctx.Done():
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		s := c.Status()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if s.Status != StatusReady {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(s) // a reader that is gone wants no answer
	})
	metrics := c.metrics.Handler()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		c.links.count()
		metrics.ServeHTTP(w, r)
	})
	server := &http.Server{
		Handler: localOnly(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	pass := context.AfterFunc(c.passing, func() { _ = server.Shutdown(ctx) })
	defer pass()
	if err := server.Serve(c.status); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ctx.Done()
	return nil
}

// localOnly refuses requests that name another host: a page in a browser on this machine could have its own name resolve here.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "this listener is for this machine", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
