package connector

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	// sleptAtLeast is how far the wall clock must have run ahead of the monotonic one, which stands still while the machine
	// sleeps, to count as sleep.
	sleptAtLeast = 5 * time.Second
	// deadAfter is how long a machine may sleep before the edge has given its links up.
	deadAfter = 10 * time.Second
	// gatherFor gathers the many messages that one change of the network makes.
	gatherFor = 250 * time.Millisecond
)

// slept tells for how long the machine slept between two readings of the clock, 0 if it did not.
func slept(before, now time.Time) time.Duration {
	return sleptFor(now.Round(0).Sub(before.Round(0)), now.Sub(before)) // Round strips the monotonic reading
}

// sleptFor judges by how far the wall clock and the monotonic one went on. A clock that is set forward looks the same, and costs
// no more than a new link beside the old one.
func sleptFor(wall, monotonic time.Duration) time.Duration {
	if wall-monotonic < sleptAtLeast {
		return 0
	}
	return wall - monotonic
}

// watchNetwork has lanes dial at once when the machine wakes up or its addresses change, until ctx ends.
func (e *edges) watchNetwork(ctx context.Context) {
	events := e.cfg.Network
	if events == nil {
		changed := make(chan struct{}, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := watchAddresses(ctx, changed); err != nil && ctx.Err() == nil {
				e.logger.Warn("changes of the network are not seen: links are opened anew when the old ones are found dead", zap.Error(err))
			}
		}()
		defer func() { <-done }()
		events = changed
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, known := time.Now(), addresses()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			if d := slept(last, now); d > 0 {
				e.logger.Info("the machine slept", zap.Duration("for", d))
				e.networkChanged(now, func(netip.Addr, bool) bool { return d > deadAfter })
			}
			last = now
		case <-events:
			wait(ctx, gatherFor)
			// Routers refresh addresses every few minutes, which is told and changes nothing.
			now := addresses()
			if slices.Equal(known, now) && e.cfg.Network == nil {
				continue
			}
			known = now
			e.logger.Info("the network changed", zap.Int("addresses", len(now)))
			e.networkChanged(time.Now(), func(a netip.Addr, bound bool) bool { return bound && !slices.Contains(now, a) })
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// addresses lists the machine's own addresses on interfaces that are up.
func addresses() []netip.Addr {
	var out []netip.Addr
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		all, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		for _, a := range all {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, prefix.Addr().WithZone(""))
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// networkChanged has every lane without a link dial now, and opens another link in place of each that is gone by
// its local address.
func (e *edges) networkChanged(now time.Time, gone func(local netip.Addr, bound bool) bool) {
	for _, s := range e.all() {
		s.networkChanged(now, gone)
	}
	e.wake()
}

func (l *links) networkChanged(now time.Time, gone func(local netip.Addr, bound bool) bool) {
	l.mu.Lock()
	all := append([]*held(nil), l.held...)
	l.mu.Unlock()
	for _, lane := range l.lanes {
		for _, h := range all {
			// A socket that is bound to no address sends from the one that is there: QUIC then goes on (RFC 9000 §9).
			if h.lane == lane.kind && gone(localAddr(h.Info().Local)) {
				lane.gone(h, now)
			}
		}
		lane.retry(now)
	}
}

// localAddr is the address that a socket is bound to; not bound if any will do.
func localAddr(a net.Addr) (local netip.Addr, bound bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}, false
	}
	addr := at.Addr().Unmap().WithZone("")
	return addr, !addr.IsUnspecified()
}
