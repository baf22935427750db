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
	// rendezvousTimeout bounds how long a continuation waits for its body, and a body for its continuations.
	rendezvousTimeout = 10 * time.Second
	// maxParked is how many continuations of one peer may wait for their bodies.
	maxParked = maxMoving * wire.MaxStripes
)

// Continuations is where continuations and the bodies that they continue meet: links are separate connections, so that
// either may come first. One belongs to one peer, a connector or an edge process, and is given to no other: a peer can
// continue its own bodies only (attack case K1). Its methods may be called from several goroutines.
type Continuations struct {
	mu     sync.Mutex
	open   map[bodyKey]*meeting
	parked int
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
	return &Continuations{open: map[bodyKey]*meeting{}}
}

// Accept takes a stream of kind wire.StreamContinuation, of which the kind byte has been read, and keeps it until its
// body asks for it, for 10 s at most. One that no body wants, a second one for the same stripe, and what is over 512 at a
// time are reset; the error says so. It returns once the head has been read.
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
	// This side says nothing on it: with this FIN the sender need not wait for anything when it has sent the last byte.
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

// meet returns the meeting of a body; the caller holds mu.
func (c *Continuations) meet(key bodyKey, offset uint64, stripes uint32) (*meeting, error) {
	m := c.open[key]
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

// drop resets continuations that came for a body that nobody will ask for.
func (c *Continuations) drop(key bodyKey) {
	c.mu.Lock()
	m := c.open[key]
	c.mu.Unlock()
	if m != nil {
		c.expire(key, m, tunnel.ResetCancelled)
	}
}

// expire resets continuations that no body came for.
func (c *Continuations) expire(key bodyKey, m *meeting, code tunnel.ResetCode) {
	c.mu.Lock()
	mine := c.open[key] == m && !m.awaited
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
