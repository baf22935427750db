package wslink

import (
	"net"
	"time"
)

// cork joins the pieces in which the WebSocket library writes a message (4 KiB each on the side that masks) into one
// write: one TLS record and one system call instead of five. It also bounds every write to the connection.
type cork struct {
	net.Conn
	limit time.Duration

	// turn holds one token: whoever writes has it. It is no mutex, so that fake time (testing/synctest) passes while
	// one goroutine waits for another one's write.
	turn   chan struct{}
	corked bool
	buf    []byte
}

func newCork(c net.Conn, limit time.Duration) *cork {
	return &cork{Conn: c, limit: limit, turn: make(chan struct{}, 1)}
}

// Write keeps p while corked. What other goroutines write meanwhile (a pong, a close frame) goes through the same
// buffer and so stays in its order.
func (c *cork) Write(p []byte) (int, error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.corked {
		c.buf = append(c.buf, p...)
		return len(p), nil
	}
	return c.through(p)
}

func (c *cork) push() {
	c.turn <- struct{}{}
	c.corked = true
	<-c.turn
}

func (c *cork) pull() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.corked = false
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.through(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *cork) through(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
