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
// value remembers nothing, and so does nil. It is safe for concurrent use.
type Addresses struct {
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

// remember notes addresses of host among which the edge was.
func (a *Addresses) remember(host string, found []netip.Addr) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.host, a.last = host, slices.Clone(found)
}
