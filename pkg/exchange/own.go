package exchange

import (
	"fmt"
	"math"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// own watches the exchange's own stream while its body comes in elsewhere: that stream stays the one on which an exchange
// is given up. Nothing but probes and the FIN may still come on it.
type own struct {
	// done is closed when the stream has ended, and gone if that is a fault; frame and err say how.
	done  chan struct{}
	gone  chan struct{}
	frame wire.FrameType
	err   error

	mu   sync.Mutex
	lane *inLane
}

func (o *own) over() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// watch reads the rest of the stream. Its end by anything but a FIN, which may overtake the body, ends the body at once.
func (o *own) watch(r *wire.Reader) {
	o.frame, o.err = r.Next()
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.done)
	if isFIN(o.err) {
		return
	}
	close(o.gone)
	if o.lane != nil {
		o.lane.reset(resetFor(o.fault()))
	}
}

// hold gives the watcher what it resets.
func (o *own) hold(l *inLane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lane = l
	if o.over() && !isFIN(o.err) {
		l.reset(tunnel.ResetCancelled)
	}
}

// fault says why the stream ended if that is a reason for the body to end, else nil.
func (o *own) fault() error {
	switch {
	case !o.over(), isFIN(o.err):
		return nil
	case o.err == nil:
		return unexpected(o.frame, "after the body has moved")
	}
	return o.err
}

// moved reads the present Moved frame and goes on with the body's continuations; the caller holds mu.
func (b *body) moved() error {
	moved, err := b.r.Moved()
	if err != nil {
		return err
	}
	switch {
	case !b.moves.accepts():
		return fmt.Errorf("moved to lane %d at %d: not negotiated: %w", moved.Lane, moved.Offset, wire.ErrProtocol)
	case moved.Offset > math.MaxInt64 || int64(moved.Offset) != b.got:
		return fmt.Errorf("moved at %d, and %d bytes came: %w", moved.Offset, b.got, wire.ErrProtocol)
	}
	b.own = &own{done: make(chan struct{}), gone: make(chan struct{})}
	go b.own.watch(b.r)
	stripes, err := b.moves.Continuations.take(b.key, &moved, b.own.gone)
	if err != nil {
		return err
	}
	b.lane = newInLane(stripes)
	b.lane.moves = b.moves
	b.moves.arriving.Add(1)
	b.own.hold(b.lane)
	b.moves.Metrics.noteMoved(b.direction)
	return nil
}

// segment goes on to what follows of a moved body; the caller holds mu.
func (b *body) segment() {
	r, err := b.lane.next(uint64(b.got))
	if err == nil && r.Rest() > 0 {
		b.cur, b.inData = r, true
		return
	}
	var end wire.End
	if err == nil {
		end, err = b.lane.end()
	}
	if err == nil {
		err = b.lane.finish()
	}
	b.end(end, err)
}

func unexpected(frame wire.FrameType, where string) error {
	return fmt.Errorf("%v %s: %w", frame, where, wire.ErrProtocol)
}
