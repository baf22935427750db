package cluster

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// How connectors are spread. Each one orders the edges by a hash of its own that respects weights, and holds links to the first
// two (package connector), so that a list of edges with weights is all that there is to say: the same list from every edge moves the
// same connectors, no more than need be, and each opens its new links before it leaves the old ones. An edge with more than its
// share gives itself less weight, a little at a time; one that drains is not on the list.
const (
	// unit is how much a weight of 1 (cluster.weight) is on the list, so that there is room to give less.
	unit = 10
	// evenEvery is the least time between two changes of an edge's own weight: connectors take up to half a minute to act.
	evenEvery = 45 * time.Second
	// sheds is what an edge has over its share, as a factor, when it gives itself less weight; content, when it takes it back.
	// Between them it leaves things as they are.
	sheds, content = 1.15, 1.05
	// atLeast is how many connectors too many are worth moving any.
	atLeast = 3
	// step is the largest change at a time, as a factor; least is what is left of an edge's weight at the least.
	step, least = 0.9, 0.25
	// maxListed is how many edges a list may have; connectors take no more.
	maxListed = 16
)

// even returns the weight that an edge gives itself, from the one that it has: mine is how many connectors it holds, fair how many
// it should.
func even(share, weight uint32, mine int, fair float64) uint32 {
	full := float64(share * unit)
	over := float64(mine) / max(fair, 1)
	next := float64(weight)
	switch {
	case over > sheds && float64(mine)-fair >= atLeast:
		next *= max(step, 1/over)
	case over < content && next < full:
		next = math.Ceil(next / step)
	}
	return uint32(math.Round(min(max(next, full*least, 1), full)))
}

// fairShare is how many connectors an edge should hold. Where there are no more than two, each connector has links to both, and
// nothing can be moved: ok is false.
func fairShare(self Peer, others []Peer) (fair float64, ok bool) {
	edges, shares, connectors := 0, uint32(0), 0
	for _, p := range append([]Peer{self}, others...) {
		if p.listed() {
			edges++
			shares += p.Share
			connectors += p.Connectors
		}
	}
	if edges <= 2 || shares == 0 || !self.listed() {
		return 0, false
	}
	return float64(connectors) * float64(self.Share) / float64(shares), true
}

// listed says that connectors may open links to an edge.
func (p Peer) listed() bool { return p.URL != "" && !p.Draining && !p.Lapsed }

// EdgeList is what connectors are told: every edge that takes links, in an order that is the same on all edges.
func EdgeList(self Peer, others []Peer) []*tunnelv1.EdgeAddress {
	all := append([]Peer{self}, others...)
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	var list []*tunnelv1.EdgeAddress
	for _, p := range all {
		known := slices.ContainsFunc(list, func(e *tunnelv1.EdgeAddress) bool { return e.GetUrl() == p.URL })
		if p.listed() && !known && len(list) < maxListed {
			list = append(list, &tunnelv1.EdgeAddress{Url: p.URL, Weight: max(p.Weight, 1)})
		}
	}
	return list
}

// Self is this edge as the others know it.
func (h *Heart) Self() Peer {
	p := h.cfg.Self
	p.Weight, p.Draining = h.weight.Load(), h.cfg.Members.draining()
	p.Incarnation = h.cfg.Members.incarnation()
	p.Links, p.Connectors = h.cfg.Registry.Links()
	return p
}

// level gives this edge less weight while it has more than its share of the connectors. Those that have yet to act on a list with
// other edges are no surplus.
func (h *Heart) level(now time.Time) {
	self, others := h.Self(), h.cfg.Members.Peers()
	var listed []id.Edge
	for _, p := range others {
		if p.listed() {
			listed = append(listed, p.ID)
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, h.listed) {
		h.listed, h.leveled = listed, now
	}
	if now.Sub(h.leveled) < evenEvery {
		return
	}
	fair, ok := fairShare(self, others)
	if !ok {
		return
	}
	h.leveled = now
	h.weight.Store(even(self.Share, self.Weight, self.Connectors, fair))
}
