package ingress

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

const (
	// maxBindings bounds each half of what is remembered of who is where; bindingLife is how long an unused one is kept at least.
	maxBindings = 8192
	bindingLife = time.Hour
)

// group is the origins of a rule in their order, and who is served by which.
//
// OSCAR's session lives on one Tomcat, so nobody hops: a principal stays where it is while that origin is usable, also when
// the first one has come back. The key is the principal and not JSESSIONID or the sign-in: it is the same before and after a
// new sign-in, for which a held form is sent again, and nothing has to be learned from answers, so that with spread it leads to
// the same origin after a restart of the connector. A service's requests all go to one origin.
type group struct {
	origins []*origin
	spread  bool

	mu         sync.Mutex // guards the bindings
	young, old map[uint64]*origin
	turned     time.Time
}

func newGroup(origins []*origin, spread bool) *group {
	return &group{origins: origins, spread: spread, young: map[uint64]*origin{}, old: map[uint64]*origin{}}
}

// choose returns the origin for key among those not in tried, or nil when there is none. It is the one that serves key
// already, if that is usable; else the first that has been usable for a while; else the first of the best there is.
func (g *group) choose(key uint64, tried []*origin, now time.Time) *origin {
	if len(g.origins) == 1 {
		if len(tried) > 0 {
			return nil
		}
		return g.origins[0]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if o := g.bound(key); o != nil && !slices.Contains(tried, o) && o.standing() >= standsFresh {
		g.bind(key, o, now)
		return o
	}
	var best *origin
	rank, weight := standing(-1), uint64(0)
	for i, o := range g.origins {
		if slices.Contains(tried, o) {
			continue
		}
		s, w := o.standing(), uint64(len(g.origins)-i)
		if g.spread {
			w = rendezvous(key, o.key)
		}
		if s > rank || s == rank && w > weight {
			best, rank, weight = o, s, w
		}
	}
	// Where nothing is usable nobody is moved, and an open circuit is no reason to ask it after another one failed.
	switch {
	case best == nil || rank == standsOpen && len(tried) > 0:
		return nil
	case rank >= standsFresh:
		g.bind(key, best, now)
	}
	return best
}

func (g *group) bound(key uint64) *origin {
	if o := g.young[key]; o != nil {
		return o
	}
	return g.old[key]
}

func (g *group) bind(key uint64, o *origin, now time.Time) {
	if len(g.young) >= maxBindings || now.Sub(g.turned) >= bindingLife {
		g.young, g.old, g.turned = map[uint64]*origin{}, g.young, now
	}
	g.young[key] = o
}

// rendezvous weighs an origin for a key (highest random weight): when one goes, only its own people move.
func rendezvous(key uint64, name string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], key)
	_, _ = h.Write(b[:]) // a hash never fails
	_, _ = h.Write([]byte(name))
	// FNV mixes its last bytes little; the finaliser of MurmurHash3 spreads them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
