package controlserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// How much may wait to be sent on a control stream, and how long one message may take. A peer that reads too slowly for that
// is closed: it would miss a revocation.
const (
	queueLength  = 64
	writeTimeout = 20 * time.Second
)

var errQueueFull = errors.New("control stream: too many messages wait")

// control is the first stream of a link. Until open everything goes through send and read; then what post has queued, from any
// goroutine, is sent to the peer. There is no goroutine while nothing waits: most links are idle.
type control struct {
	stream tunnel.Stream
	reader *bufio.Reader
	limit  int
	held   *io.LimitedReader
	fail   func(error) // ends the link; it may block for a second

	mu      sync.Mutex // guards all below
	queue   []*tunnelv1.Control
	opened  bool
	sending bool // a goroutine sends what waits; true for good after a failure
	failed  bool // a message found no room: what is lost could be a revocation, so the link ends

	write sync.Mutex // one message at a time
}

// readAhead is enough for a heartbeat; what is larger is read straight to where it belongs.
const readAhead = 256

func newControl(s tunnel.Stream, fail func(error)) *control {
	held := &io.LimitedReader{R: s, N: wire.MaxControlHeld}
	return &control{stream: s, held: held, reader: bufio.NewReaderSize(held, readAhead), limit: wire.MaxControlHeld, fail: fail}
}

// admit lifts the limits of a held link.
func (c *control) admit() {
	c.held.N = 1 << 62
	c.limit = wire.MaxControl
}

// read returns the next message; kinds that this version does not know come back empty.
func (c *control) read() (*tunnelv1.Control, error) {
	m, err := wire.ReadControl(c.reader, c.limit)
	if err != nil && c.held.N == 0 {
		return nil, fmt.Errorf("more than %d bytes before admission: %w", wire.MaxControlHeld, err)
	}
	return m, err
}

// await returns when there is something to read, or an error that read returns then.
func (c *control) await() { _, _ = c.reader.Peek(1) }

// ahead reports whether a part of a message at least has been read already.
func (c *control) ahead() bool { return c.reader.Buffered() > 0 }

// rouse has f called once when there is something to read, as tunnel.Rousing does; false if the stream cannot.
func (c *control) rouse(f func()) bool {
	r, ok := c.stream.(tunnel.Rousing)
	switch {
	case !ok:
		return false
	case c.ahead() && r.Rouse(func() {}):
		f()
		return true
	}
	return r.Rouse(f)
}

// send writes a message now.
func (c *control) send(m *tunnelv1.Control) error {
	c.write.Lock()
	defer c.write.Unlock()
	return wire.WriteControl(c.stream, m)
}

// post queues a message; it never blocks. When there is no room the link ends.
func (c *control) post(m *tunnelv1.Control) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= queueLength {
		if !c.failed {
			c.failed = true
			go c.fail(errQueueFull) // the sending goroutine is blocked in a write just then
		}
		return errQueueFull
	}
	c.queue = append(c.queue, m)
	c.wake()
	return nil
}

// open begins to send what was and will be posted.
func (c *control) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = true
	c.wake()
}

// wake starts sending where something waits; c.mu is held.
func (c *control) wake() {
	if !c.opened || c.sending || len(c.queue) == 0 {
		return
	}
	c.sending = true
	go func() {
		if err := c.flush(); err != nil {
			c.fail(err)
		}
	}()
}

// next takes the message that has waited longest; nil when there is none, which ends the sending.
func (c *control) next() *tunnelv1.Control {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.sending = nil, false
		return nil
	}
	m := c.queue[0]
	c.queue = c.queue[1:]
	return m
}

// flush sends what waits until nothing does, or a message cannot be sent.
func (c *control) flush() error {
	for m := c.next(); m != nil; m = c.next() {
		if err := c.stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := c.send(m); err != nil {
			return err
		}
	}
	return nil
}

// goodbye is the last message; the link's own close follows it.
func (c *control) goodbye(code string, r tunnel.Reason) error {
	if err := c.stream.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	return c.send(&tunnelv1.Control{Message: &tunnelv1.Control_Goodbye{Goodbye: &tunnelv1.Goodbye{
		Code: code, Message: r.Message, RetryAfterMs: uint32(r.RetryAfter.Milliseconds()),
	}}})
}
