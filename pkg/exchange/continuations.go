package exchange

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

const (
	// rendezvousTimeout bounds how long a continuation waits for its exchange, and a body that moved for its continuations.
	rendezvousTimeout = 10 * time.Second
	// maxParked is how many continuations of one peer may wait for their bodies.
	maxParked = maxMoving * wire.MaxStripes
)

// Continuations is where continuations and the bodies that they continue meet: links are separate connections, so that
// either may come first. One belongs to one peer, a connector or an edge process, and is given to no other: a peer can
// continue its own bodies only (attack case K1). Its methods may be called from several goroutines.
type Continuations struct {
	mu   sync.Mutex
	open map[bodyKey]*meeting
	// running are the exchanges whose bodies may still ask: what came for one waits as long as it takes, for its body is
	// perhaps read slowly, up to where it moved.
	running map[bodyKey]struct{}
	parked  int
}

// bodyKey names a moved body; each side has a table of what it receives, so that the direction is no part of it.
type bodyKey struct{ generation, exchange uint64 }

// meeting is one body that continuations have come for, or that waits for some.
type meeting struct {
	offset  uint64
	stripes []*stripe // nil: has not come
	missing int
	// whole is closed when nothing is missing. awaited: the body is there.
	whole   chan struct{}
	awaited bool
	expires *time.Timer
}

// NewContinuations returns an empty table.
func NewContinuations() *Continuations {
	return &Continuations{open: map[bodyKey]*meeting{}, running: map[bodyKey]struct{}{}}
}

// Accept takes a stream of kind wire.StreamContinuation, of which the kind byte has been read, and keeps it until its
// body asks for it: as long as its exchange runs, and for 10 s if that has not begun. One that no body wants, a second one
// for the same stripe, and what is over 512 at a time are reset, and the body stays where it is; the error says so. It
// returns once the head has been read.
func (c *Continuations) Accept(s tunnel.Stream) error {
	one := newStripe(s)
	head, err := one.head()
	if err != nil {
		s.Reset(resetFor(err))
		return fmt.Errorf("continuation: %w", err)
	}
	if err := c.park(one, &head); err != nil {
		s.Reset(tunnel.ResetRefused)
		return err
	}
	// This side says nothing on it but that it has it: the sender waits for this FIN before the body moves.
	return s.CloseWrite()
}

var (
	errManyParked   = errors.New("continuation: too many wait for their bodies")
	errContradicted = errors.New("continuation: it contradicts an earlier one")
)

func (c *Continuations) park(one *stripe, head *wire.Continuation) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked >= maxParked {
		return errManyParked
	}
	key := bodyKey{head.Generation, head.Exchange}
	m, err := c.meet(key, head.Offset, max(head.Stripes, 1))
	if err != nil {
		return err
	}
	if m.stripes[head.Stripe] != nil {
		return errContradicted
	}
	m.stripes[head.Stripe] = one
	c.parked++
	if m.missing--; m.missing == 0 {
		close(m.whole)
		if m.awaited {
			c.forget(key, m)
		}
	}
	return nil
}

// begin says that an exchange runs, whose body may ask; end, that it does not any more: what came for it is reset.
func (c *Continuations) begin(key bodyKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[key] = struct{}{}
}

func (c *Continuations) end(key bodyKey) {
	c.mu.Lock()
	delete(c.running, key)
	m := c.open[key]
	c.mu.Unlock()
	if m != nil {
		c.expire(key, m, tunnel.ResetCancelled)
	}
}

// meet returns the meeting of a body; the caller holds mu. An offset beyond that of an earlier one is a new attempt: the
// sender has given the earlier one up, went on where it was, and does not go back.
func (c *Continuations) meet(key bodyKey, offset uint64, stripes uint32) (*meeting, error) {
	m := c.open[key]
	if m != nil && offset > m.offset && !m.awaited {
		c.forget(key, m)
		m.reset(tunnel.ResetCancelled)
		m = nil
	}
	if m == nil {
		m = &meeting{
			offset: offset, stripes: make([]*stripe, stripes), missing: int(stripes), whole: make(chan struct{}),
		}
		m.expires = time.AfterFunc(rendezvousTimeout, func() { c.expire(key, m, tunnel.ResetTimeout) })
		c.open[key] = m
	}
	if m.offset != offset || len(m.stripes) != int(stripes) {
		return nil, errContradicted
	}
	return m, nil
}

// forget takes a meeting out; its stripes are the caller's. The caller holds mu.
func (c *Continuations) forget(key bodyKey, m *meeting) {
	if c.open[key] != m {
		return
	}
	delete(c.open, key)
	m.expires.Stop()
	c.parked -= len(m.stripes) - m.missing
}

// expire resets continuations that no body will ask for.
func (c *Continuations) expire(key bodyKey, m *meeting, code tunnel.ResetCode) {
	c.mu.Lock()
	_, runs := c.running[key]
	mine := c.open[key] == m && !m.awaited && !runs
	if mine {
		c.forget(key, m)
	}
	c.mu.Unlock()
	if mine {
		m.reset(code)
	}
}

func (m *meeting) reset(code tunnel.ResetCode) {
	for _, one := range m.stripes {
		if one != nil {
			one.stream.Reset(code)
		}
	}
}

// take returns the continuations of a body once all are there. It waits for 10 s, and no longer than until stop is closed.
func (c *Continuations) take(key bodyKey, moved *wire.Moved, stop <-chan struct{}) ([]*stripe, error) {
	c.mu.Lock()
	m, err := c.meet(key, moved.Offset, max(moved.Stripes, 1))
	if err == nil && m.awaited {
		err = errContradicted
	}
	if err != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("moved: %w: %w", err, wire.ErrProtocol)
	}
	m.awaited = true
	if m.missing == 0 {
		c.forget(key, m)
	}
	c.mu.Unlock()

	timer := time.NewTimer(rendezvousTimeout)
	defer timer.Stop()
	select {
	case <-m.whole:
		return m.stripes, nil
	case <-stop:
		err = errStopped
	case <-timer.C:
		err = &AbortError{Code: wire.CodeTunnelDown, Message: "the rest of the body did not come"}
	}
	c.mu.Lock()
	c.forget(key, m)
	m.reset(tunnel.ResetCancelled) // with mu: park adds none to it any more
	c.mu.Unlock()
	return nil, err
}

var errStopped = errors.New("the exchange ended")
