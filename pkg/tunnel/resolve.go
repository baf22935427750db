package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// resolveLimit bounds one look-up; a dial that hangs in DNS keeps the connector from trying again.
const resolveLimit = 5 * time.Second

// Resolve looks host up anew: an edge moves, and a connector that remembers its address for ever stays away.
//
// "localhost" and every name under it are the loopback addresses (RFC 6761 §6.3): browsers and curl know that, Go's
// resolver does not. IPv4 comes first there, because a listener on 127.0.0.1 alone is common and a QUIC dial to a
// closed port of ::1 is told nothing.
func Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	addrs := make([]netip.Addr, len(found))
	for i, a := range found {
		addrs[i] = a.Unmap()
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve: %s has no address", host)
	}
	return addrs, nil
}

// Addresses remembers where an edge was last reached, for dials while DNS is down: which edge answers there, TLS says. The zero
// value remembers nothing yet, and nil never does. It is safe for concurrent use.
type Addresses struct {
	// Keep is told, if set, when what is remembered changes, so that it outlives the process. It must not block for long.
	Keep func(host string, addrs []netip.Addr)

	mu   sync.Mutex // guards both
	host string
	last []netip.Addr
}

// resolve asks DNS, always, and gives what is remembered only when that fails.
func (a *Addresses) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := Resolve(ctx, host)
	if err == nil || a == nil || ctx.Err() != nil {
		return found, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host != host || len(a.last) == 0 {
		return nil, err
	}
	return slices.Clone(a.last), nil
}

// Remember notes addresses of host among which the edge was.
func (a *Addresses) Remember(host string, found []netip.Addr) {
	if a == nil || !a.note(host, found) || a.Keep == nil {
		return
	}
	a.Keep(host, slices.Clone(found))
}

// note reports whether that is news. A name server that turns its answer round brings none.
func (a *Addresses) note(host string, found []netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	same := a.host == host && len(a.last) == len(found) && !slices.ContainsFunc(found, func(f netip.Addr) bool { return !slices.Contains(a.last, f) })
	a.host, a.last = host, slices.Clone(found)
	return !same
}

// Interleave orders addresses for trying: the families take turns, the first address's first (RFC 8305 §4), so that a family
// whose packets vanish costs one head start and not one per address.
func Interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
