package connector

import (
	"net/netip"
	"time"
)

// What tests wait for in place of the usual times.
const (
	testQuiet = 300 * time.Millisecond
	// TestLinger must be longer than an edge on a busy machine takes from picking a link to opening a stream on it.
	TestLinger = time.Second
)

// Hurry gives links up after testQuiet of low load, and TestLinger without work, and takes the path to an edge on this machine
// for a line.
func (c *Connector) Hurry() {
	c.links.shrink = shrinking{fast: testQuiet, bulk: testQuiet, linger: TestLinger, warm: testQuiet, spread: testQuiet}
}

// Retiring is how many links take nothing new.
func (c *Connector) Retiring() int {
	n := 0
	for _, s := range c.links.status() {
		if s.draining {
			n++
		}
	}
	return n
}

// AddressesGone is a change of the network that took every address.
func (c *Connector) AddressesGone() {
	c.links.networkChanged(time.Now(), func(_ netip.Addr, bound bool) bool { return bound })
}

// Woke is the end of a long sleep.
func (c *Connector) Woke() {
	c.links.networkChanged(time.Now(), func(netip.Addr, bool) bool { return true })
}

// Hasten has lanes that wait dial now.
func (c *Connector) Hasten() {
	for _, s := range c.links.all() {
		for _, l := range s.lanes {
			l.mu.Lock()
			l.due, l.late = time.Time{}, 0
			l.mu.Unlock()
			l.wake()
		}
	}
}
