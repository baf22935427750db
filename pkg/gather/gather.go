// Package gather owns the writes of a TLS connection to its socket: crypto/tls makes a write of each record of 16 KiB, and
// what is written in larger pieces leaves in one system call here. Each write wakes the reader, so that for large bodies this
// is a good part of what they cost. It knows nothing of TLS but that its bytes must stay in their order.
package gather

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// Limit is how many bytes are gathered at most; what is more leaves before.
const Limit = 128 << 10

// Conn is a socket whose writes can be held back for a moment. Its methods may be called from several goroutines.
type Conn struct {
	net.Conn

	mu   sync.Mutex // guards all below; held during writes, which a deadline of the socket ends
	held int
	buf  *[]byte // nil while nothing waits
	err  error   // of a write that was reported as done: the bytes of a stream must not go on behind a gap
}

// buffers lends what is gathered in: most connections are idle.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, Limit)
	return &b
}}

// NewConn returns a Conn over socket.
func NewConn(socket net.Conn) *Conn { return &Conn{Conn: socket} }

// Hold keeps what is written from now on until as many calls of Release.
func (c *Conn) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
}

// Release writes what was kept. Its error is that of a Write; every later Write returns it too.
func (c *Conn) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held--; c.held > 0 {
		return c.err
	}
	return c.flush()
}

// Write implements net.Conn. What is kept counts as written.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.held == 0 {
		return c.Conn.Write(p)
	}
	if c.buf != nil && len(*c.buf)+len(p) > Limit {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > Limit {
		var n int
		n, c.err = c.Conn.Write(p)
		return n, c.err
	}
	if c.buf == nil {
		c.buf = buffers.Get().(*[]byte)
	}
	*c.buf = append(*c.buf, p...)
	return len(p), nil
}

// flush writes what was kept; the caller holds mu.
func (c *Conn) flush() error {
	if c.buf == nil {
		return c.err
	}
	if c.err == nil {
		_, c.err = c.Conn.Write(*c.buf)
	}
	*c.buf = (*c.buf)[:0]
	buffers.Put(c.buf)
	c.buf = nil
	return c.err
}

var errNoSocket = syscall.EINVAL

// SyscallConn implements syscall.Conn for a socket that does.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	under, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errNoSocket
	}
	return under.SyscallConn()
}

// Holder is what holds writes back: a *Conn, or what stands in front of one.
type Holder interface {
	Hold()
	Release() error
}

// Under returns what holds back the writes that c, a *tls.Conn, makes to its socket; nil if nothing does.
func Under(c net.Conn) Holder {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	h, _ := c.(Holder)
	return h
}

type key struct{}

// With is for http.Server.ConnContext: handlers find with From what holds the writes of their connection back.
func With(ctx context.Context, c net.Conn) context.Context {
	if h := Under(c); h != nil {
		return context.WithValue(ctx, key{}, h)
	}
	return ctx
}

// From returns what With left; nil if there is nothing.
func From(ctx context.Context) Holder {
	h, _ := ctx.Value(key{}).(Holder)
	return h
}
