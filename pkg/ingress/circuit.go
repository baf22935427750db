package ingress

import (
	"sync"
	"time"
)

const (
	// tripAfter failed dials in a row open the circuit for openFor.
	tripAfter = 5
	openFor   = 2 * time.Second
)

// circuit spares an origin that takes no connections, and everybody who would wait for it: while open, dials fail at once
// as the last one did; then one is let through to look.
type circuit struct {
	mu       sync.Mutex
	failures int
	last     error
	until    time.Time
}

// allow returns the last failure while the circuit is open.
func (c *circuit) allow(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < tripAfter {
		return nil
	}
	if now.Before(c.until) {
		return c.last
	}
	c.until = now.Add(openFor)
	return nil
}

// note records how a dial ended.
func (c *circuit) note(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures, c.last = 0, nil
		return
	}
	c.failures++
	c.last, c.until = err, now.Add(openFor)
}
