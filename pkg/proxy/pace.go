package proxy

import (
	"io"
	"time"
)

// DefaultWriteIdle is how long a browser may take nothing of an answer before it counts as gone.
const DefaultWriteIdle = 2 * time.Minute

// paced writes an answer's body to the browser. Each write gets its own time; there is none for the whole.
type paced struct {
	*carrying
	until time.Time
}

var _ io.Writer = (*paced)(nil)

func (p *paced) Write(b []byte) (int, error) {
	now := time.Now()
	// Moving the deadline costs something: not for every chunk.
	if p.until.Sub(now) < p.writeIdle*3/4 {
		p.until = now.Add(p.writeIdle)
		p.allow(p.until)
	}
	return p.w.Write(b)
}

// allow moves the deadline of writes, unless the lease has ended and cut them off.
func (c *carrying) allow(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r.Context().Err() == nil {
		_ = c.control.SetWriteDeadline(until)
	}
}

// rest takes the deadline away: the connection goes on to other requests.
func (c *carrying) rest() { c.allow(time.Time{}) }
