package access

import (
	"cmp"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

// Stranger is how often one network was refused at a tenant without being known.
type Stranger struct {
	Tenant id.Tenant
	// Source is the network (session.SourceOf); "" gathers those that found the table full.
	Source string
	Count  uint64
}

// strangers counts refusals of the unauthenticated. It is bounded: who has many addresses fills it and is then counted
// under no address.
type strangers struct {
	max int

	mu     sync.Mutex // guards counts
	counts map[strangerKey]uint64
}

type strangerKey struct {
	tenant id.Tenant
	source string
}

func newStrangers(limit int) *strangers {
	return &strangers{max: limit, counts: map[strangerKey]uint64{}}
}

func (s *strangers) count(t id.Tenant, source string) {
	k := strangerKey{t, source}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.counts[k]; !known && len(s.counts) >= s.max {
		k.source = ""
	}
	s.counts[k]++
}

func (a *Access) stranger(t id.Tenant, remote, reason string) {
	a.strangers.count(t, session.SourceOf(remote))
	a.metrics.strangers.WithLabelValues(reason).Inc()
}

// Strangers lists the refusals of the unauthenticated since the edge started, most frequent first.
func (a *Access) Strangers() []Stranger {
	a.strangers.mu.Lock()
	defer a.strangers.mu.Unlock()
	out := make([]Stranger, 0, len(a.strangers.counts))
	for k, n := range a.strangers.counts {
		out = append(out, Stranger{k.tenant, k.source, n})
	}
	slices.SortFunc(out, func(x, y Stranger) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Source, y.Source))
	})
	return out
}
