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

// control is the first stream of a link. Until admit everything goes through send and read; then post may queue messages from
// any goroutine and write takes them to the peer.
type control struct {
	stream tunnel.Stream
	reader *bufio.Reader
	limit  int
	held   *io.LimitedReader
	queue  chan *tunnelv1.Control

	overflow sync.Once
	full     chan struct{} // closed when a message found no room: what is lost could be a revocation, so the link ends

	write sync.Mutex // one message at a time
}

func newControl(s tunnel.Stream) *control {
	held := &io.LimitedReader{R: s, N: wire.MaxControlHeld}
	return &control{
		stream: s, held: held, reader: bufio.NewReader(held), limit: wire.MaxControlHeld,
		queue: make(chan *tunnelv1.Control, queueLength), full: make(chan struct{}),
	}
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

// send writes a message now.
func (c *control) send(m *tunnelv1.Control) error {
	c.write.Lock()
	defer c.write.Unlock()
	return wire.WriteControl(c.stream, m)
}

// post queues a message; it never blocks. When there is no room the link ends.
func (c *control) post(m *tunnelv1.Control) error {
	select {
	case c.queue <- m:
		return nil
	default:
		c.overflow.Do(func() { close(c.full) })
		return errQueueFull
	}
}

// flush sends what is queued until done is closed or a message cannot be sent.
func (c *control) flush(done <-chan struct{}) error {
	for {
		select {
		case m := <-c.queue:
			if err := c.stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return err
			}
			if err := c.send(m); err != nil {
				return err
			}
		case <-done:
			return nil
		}
	}
}

// overflowed waits for a message that finds no room. flush cannot watch for it: it is blocked in a write just then.
func (c *control) overflowed(done <-chan struct{}) error {
	select {
	case <-c.full:
		return errQueueFull
	case <-done:
		return nil
	}
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
