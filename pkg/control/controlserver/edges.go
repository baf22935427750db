package controlserver

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// What a list of edges may be; connectors take no other.
const (
	MaxEdges      = 16
	MaxEdgeWeight = 1000
)

// edgeList is what connectors are told of where links may be opened.
type edgeList struct {
	mu      sync.Mutex // held while messages are queued, so that no connector gets the older list last
	message *tunnelv1.Control
}

// CheckEdges returns the list with canonical URLs, or what is wrong with it.
func CheckEdges(list []*tunnelv1.EdgeAddress) ([]*tunnelv1.EdgeAddress, error) {
	if len(list) > MaxEdges {
		return nil, fault.New(fault.Invalid, "%d entries, at most %d", len(list), MaxEdges)
	}
	seen := map[string]bool{}
	out := make([]*tunnelv1.EdgeAddress, 0, len(list))
	for i, a := range list {
		url, err := enroll.EdgeURL(a.GetUrl())
		switch {
		case err != nil:
			return nil, fmt.Errorf("entry %d, %q: %w", i+1, a.GetUrl(), err)
		case a.GetWeight() > MaxEdgeWeight:
			return nil, fault.New(fault.Invalid, "entry %d: weight %d: use 1 to %d", i+1, a.GetWeight(), MaxEdgeWeight)
		case seen[url]:
			return nil, fault.New(fault.Invalid, "entry %d: %s is there twice", i+1, url)
		}
		seen[url] = true
		out = append(out, &tunnelv1.EdgeAddress{Url: url, Weight: a.GetWeight()})
	}
	return out, nil
}

// SetEdges sets where connectors may open links, and tells those that are linked if it is another list than before. An empty
// list tells them nothing: they stay with the one they have.
func (s *Server) SetEdges(list []*tunnelv1.EdgeAddress) error {
	list, err := CheckEdges(list)
	if err != nil {
		return err
	}
	s.edges.mu.Lock()
	defer s.edges.mu.Unlock()
	if len(list) == 0 {
		s.edges.message = nil
		return nil
	}
	message := &tunnelv1.Control{Message: &tunnelv1.Control_Edges{Edges: &tunnelv1.Edges{Edges: list}}}
	same := func(a, b *tunnelv1.EdgeAddress) bool {
		return a.GetUrl() == b.GetUrl() && a.GetWeight() == b.GetWeight()
	}
	if slices.EqualFunc(list, s.edges.message.GetEdges().GetEdges(), same) {
		return nil
	}
	s.edges.message = message
	s.cfg.Registry.Broadcast("", message)
	return nil
}

// tellEdges tells a link that has joined the registry.
func (s *Server) tellEdges(a *admission) {
	s.edges.mu.Lock()
	defer s.edges.mu.Unlock()
	if s.edges.message != nil {
		_ = a.control.post(s.edges.message) // without room the link ends, and says so itself
	}
}
