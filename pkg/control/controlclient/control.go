package controlclient

import (
	"bufio"
	"io"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// control is the first stream of the link.
type control struct {
	stream tunnel.Stream
	reader *bufio.Reader
	held   *io.LimitedReader
	limit  int
	// probed says that the edge tells of round trips over the exchange path; set before the link is open.
	probed bool

	write sync.Mutex // one message at a time; held while the peer's window is full

	mu       sync.Mutex // guards what follows; never held while anything waits
	sequence uint64
	probe    uint64    // the oldest heartbeat that is not answered
	sent     time.Time // when it was sent; zero while all are answered
	// answered is when a heartbeat was answered last, with its monotonic reading; trip is how long that took.
	answered time.Time
	trip     time.Duration
	// proved is when the last round trip over the exchange path ended that the edge has told of.
	proved time.Time
	// beaten is when the last beat was answered.
	beaten time.Time
}

func newControl(s tunnel.Stream) *control {
	held := &io.LimitedReader{R: s, N: wire.MaxControlHeld}
	return &control{stream: s, held: held, reader: bufio.NewReader(held), limit: wire.MaxControlHeld}
}

func (c *control) admit() {
	c.held.N = 1 << 62
	c.limit = wire.MaxControl
}

// read returns the next message. A Goodbye comes as a *RefusedError.
func (c *control) read() (*tunnelv1.Control, error) {
	m, err := wire.ReadControl(c.reader, c.limit)
	if err != nil {
		return nil, eof(err)
	}
	if g := m.GetGoodbye(); g != nil {
		wait := time.Duration(g.GetRetryAfterMs()) * time.Millisecond
		return nil, &RefusedError{Code: clip(g.GetCode(), 32), Message: clip(g.GetMessage(), 200), RetryAfter: min(wait, time.Hour)}
	}
	return m, nil
}

// clip keeps what the peer says short enough for a log line.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

func (c *control) send(m *tunnelv1.Control) error {
	c.write.Lock()
	defer c.write.Unlock()
	return wire.WriteControl(c.stream, m)
}

// heartbeat sends the next heartbeat; the round trip is measured from the oldest that is not answered.
func (c *control) heartbeat(h *tunnelv1.Heartbeat) error {
	c.write.Lock()
	defer c.write.Unlock()
	h.Sequence = c.next()
	return wire.WriteControl(c.stream, &tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: h}})
}

func (c *control) next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sequence++
	if c.sent.IsZero() {
		c.probe, c.sent = c.sequence, time.Now()
	}
	return c.sequence
}

// silent is for how long the oldest unanswered heartbeat has waited.
func (c *control) silent() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent.IsZero() {
		return 0
	}
	return time.Since(c.sent)
}

// acknowledged notes the answer to a heartbeat and returns its round trip, 0 for one that nobody waits for.
func (c *control) acknowledged(sequence uint64) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent.IsZero() || sequence < c.probe || sequence > c.sequence {
		return 0
	}
	now := time.Now()
	trip := max(now.Sub(c.sent), 1)
	c.sent = time.Time{}
	c.answered, c.trip = now, trip
	return trip
}

// beat notes a beat that was answered after trip.
func (c *control) beat(trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.beaten, c.answered, c.trip = now, now, max(trip, 1)
}

// spared is for how long no heartbeat is due on this stream, because beats come that often.
func (c *control) spared(often time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.beaten.IsZero() {
		return 0
	}
	return often - time.Since(c.beaten)
}

// prove notes that a round trip over the exchange path ended that long ago. What the edge cannot know yet, the way of its message
// to here, makes it a little older than it says; 10 s are not meant to the millisecond.
func (c *control) prove(age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := time.Now().Add(-age); at.After(c.proved) {
		c.proved = at
	}
}

// roundTrip returns when a round trip ended last, over the exchange path if the edge tells of those, and how long a heartbeat took.
func (c *control) roundTrip() (at time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probed {
		return c.proved, c.trip
	}
	return c.answered, c.trip
}
