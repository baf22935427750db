package connector

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// LinkStatus is one link in Status.
type LinkStatus struct {
	// Edge is the URL of the edge that it leads to.
	Edge string `json:"edge"`
	// Lane is fast or bulk.
	Lane string `json:"lane"`
	// Transport is quic or websocket.
	Transport string `json:"transport"`
	// Up is true while its last round trip is no older than 10 s.
	Up bool `json:"up"`
	// Generation is the number that the edge gave this run.
	Generation uint64 `json:"generation"`
	// RoundTripMS is how long the last round trip took, milliseconds.
	RoundTripMS float64   `json:"roundTripMs,omitempty"`
	Since       time.Time `json:"since"`
	// Inside is true where the link was opened inside a WebSocket (tls_inspection); TLSOpenedBy then names who issued the certificate of
	// the firewall that opens TLS on the way, and is absent where none does.
	Inside      bool   `json:"inside,omitempty"`
	TLSOpenedBy string `json:"tlsOpenedBy,omitempty"`

	draining bool
	trip     time.Duration
}

// status lists the links.
func (l *links) status() []LinkStatus {
	l.mu.Lock()
	all := append([]*held(nil), l.held...)
	l.mu.Unlock()
	out := make([]LinkStatus, 0, len(all))
	for _, h := range all {
		trip, up := h.trip()
		info := h.Info()
		out = append(out, LinkStatus{
			Edge: l.edge, Lane: laneName(h.lane), Transport: info.Transport, Up: up, Generation: h.Generation,
			RoundTripMS: float64(trip.Microseconds()) / 1000, Since: h.since, Inside: info.Inside, TLSOpenedBy: info.OpenedBy,
			draining: l.isDraining(h), trip: trip,
		})
	}
	return out
}

func (l *links) isDraining(h *held) bool {
	for _, lane := range l.lanes {
		if lane.kind == h.lane {
			lane.mu.Lock()
			defer lane.mu.Unlock()
			return h.draining
		}
	}
	return false
}

// explain says in words why the lanes are not what they are at their best, by lane; empty when they are.
func (l *links) explain() map[string]string {
	out := map[string]string{}
	if len(l.lanes) == 1 {
		out["bulk"] = "the configuration allows QUIC only: large bodies share the fast lane"
	}
	if transport, _, ok := l.fresh(); ok && transport != "quic" {
		out["fast"] = "UDP does not reach the edge: exchanges run over WebSocket"
		if l.fixed == TransportWebSocket {
			out["fast"] = "the configuration allows WebSocket only"
		}
	}
	for _, lane := range l.lanes {
		lane.mu.Lock()
		if len(lane.serving) == 0 && lane.problem != "" {
			why := "no link: " + lane.problem
			if lane.kind == tunnelv1.Lane_LANE_BULK {
				why = "TCP does not reach the edge: large bodies share the fast lane: " + lane.problem
			}
			out[laneName(lane.kind)] = why
		}
		if len(lane.serving) > 0 && lane.renew && lane.problem != "" {
			out[laneName(lane.kind)] = "no link by the way that the configuration says now, those of before are kept: " + lane.problem
		}
		if len(lane.serving) > 0 {
			if why := inspection(lane.serving[len(lane.serving)-1].Info()); why != "" {
				out[laneName(lane.kind)] = strings.TrimPrefix(out[laneName(lane.kind)]+"; "+why, "; ")
			}
		}
		lane.mu.Unlock()
	}
	return out
}

// inspection says of a link what there is to know of TLS that is opened on the way; empty where nobody asked for a word.
func inspection(info tunnel.Info) string {
	switch {
	case info.OpenedBy != "":
		return fmt.Sprintf("through a firewall that opens TLS (%q), inside a TLS that it cannot open", info.OpenedBy)
	case info.Inside:
		return "nothing opens TLS on the way, so that tls_inspection is not needed"
	}
	return ""
}
