package controlclient

import (
	"sync"
	"time"
)

// Clock is the edge's clock as this connector knows it: what the edge said last, carried on by this machine's monotonic
// clock, so that a wrong or stepped wall clock here neither refuses good assertions nor takes expired ones. Safe for
// concurrent use; the zero value gives this machine's own time until the edge has spoken.
type Clock struct {
	mu   sync.Mutex // guards both
	edge time.Time
	at   time.Time // when, with its monotonic reading
}

// Now is the edge's present time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return time.Now()
	}
	return c.edge.Add(time.Since(c.at))
}

// Offset is how far the edge's clock is ahead of this machine's.
func (c *Clock) Offset() time.Duration { return time.Until(c.Now()) }

func (c *Clock) set(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.edge, c.at = time.UnixMilli(ms), time.Now()
}
