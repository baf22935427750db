package exchange

import (
	"io"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Conn is what an exchange becomes after 101: bytes both ways. Read returns io.EOF after the peer's CloseWrite and an
// *AbortError when the connection broke. Close abandons what has not been ended from both sides: the peer's Read then
// fails, so an orderly end is CloseWrite, then Read to io.EOF, then Close.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// conn frames bytes as bodies in both directions.
type conn struct {
	stream tunnel.Stream
	in     *body
	out    *sender

	mu       sync.Mutex
	ended    bool // our end frame was sent
	aborted  bool // with a code
	peerDone bool // the peer's end frame was read
	closed   bool
	// left is called once, by Close: whole if both directions had ended by then.
	left func(whole bool)
}

var _ Conn = (*conn)(nil)

func (c *conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write sends p at once: who upgrades wants to talk.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if ended {
		return 0, errClosed
	}
	n, err := c.out.write(p, true)
	if err != nil {
		return n, c.in.abort(err)
	}
	return n, nil
}

func (c *conn) CloseWrite() error {
	c.mu.Lock()
	if c.ended || c.closed {
		c.mu.Unlock()
		return nil
	}
	c.ended = true
	c.mu.Unlock()
	if err := c.out.put(true, func(w *wire.Writer) error { return w.End(&wire.End{}) }); err != nil {
		return c.in.abort(err)
	}
	return c.stream.CloseWrite()
}

// abort ends this direction with a code. The stream is then the peer's to end: a reset could overtake what was said.
func (c *conn) abort(code, message string) {
	c.mu.Lock()
	over := c.ended || c.closed
	c.ended, c.aborted = true, c.aborted || !over
	c.mu.Unlock()
	if !over {
		c.out.abort(code, message)
		_ = c.stream.CloseWrite()
	}
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.left(c.aborted || c.ended && c.peerDone)
	return nil
}

// inEnded is the body's ended function.
func (c *conn) inEnded(cause error, _ bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peerDone = cause == nil
}

var errClosed error = &AbortError{Code: wire.CodeInternal, Message: "used after it was closed"}
