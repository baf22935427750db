package exchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// outLane is the outgoing direction of an exchange after its body has moved. Segments go to whichever stripe is free;
// with one stripe they are written where they are produced, without another goroutine. The methods but reset, hurry and
// fail are called with the sender's mu held, or when nobody writes any more.
type outLane struct {
	move *Move
	// ctx ends with the exchange or the first fault; pace, before that, when the rest must leave as it is.
	ctx, pace      context.Context
	cancel, unpace context.CancelFunc
	release        func() bool // detaches from the exchange's context

	offset   uint64 // of the next segment
	gathered *block // small writes that wait for company
	ended    bool   // the end frame has left

	// blocks feeds the stripes if there are several.
	blocks  chan *block
	writers sync.WaitGroup
	failed  atomic.Pointer[error] // the first fault
	// broken resets the exchange's own stream for a fault.
	broken func(error)
}

// newOutLane opens the continuations of a body that goes on at offset on the streams of move, and waits until the peer has
// taken them, as long as opening lasts. An error leaves nothing open.
func newOutLane(ctx, opening context.Context, move *Move, m *mover, offset int64, broken func(error)) (*outLane, error) {
	l := &outLane{move: move, offset: uint64(offset), broken: broken}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.pace, l.unpace = context.WithCancel(l.ctx)
	l.release = context.AfterFunc(ctx, func() { l.reset(laneReset(context.Cause(ctx))) })
	bounded := context.AfterFunc(opening, l.interrupt)
	err := l.open(m)
	if err == nil {
		err = l.taken()
	}
	if !bounded() && err == nil {
		err = context.Cause(opening)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	if len(move.Streams) > 1 {
		l.blocks = make(chan *block)
		for i, s := range move.Streams {
			l.writers.Go(func() { l.run(i, s) })
		}
	}
	return l, nil
}

// open writes the heads of the continuations.
func (l *outLane) open(m *mover) error {
	count := len(l.move.Streams)
	if count == 0 || count > wire.MaxStripes {
		return misuse("a move to no stream, or to too many")
	}
	for i, s := range l.move.Streams {
		w := newWriter(s)
		w.Kind(wire.StreamContinuation)
		err := w.Continuation(&wire.Continuation{
			Exchange: m.exchange, Generation: m.generation, Offset: l.offset, Stripe: uint32(i), Stripes: uint32(count),
		})
		if err = errors.Join(err, w.Flush()); err != nil {
			return err
		}
		writers.Put(w)
	}
	return nil
}

// taken waits for the peer's FIN on each stream, by which it says that it keeps this one for the body.
func (l *outLane) taken() error {
	var b [1]byte
	for _, s := range l.move.Streams {
		n, err := s.Read(b[:])
		if n > 0 || err == nil {
			return fmt.Errorf("a byte on a continuation from its receiver: %w", wire.ErrProtocol)
		}
		if !isFIN(err) {
			return err
		}
	}
	return nil
}

// interrupt ends open and taken.
func (l *outLane) interrupt() {
	past := time.Unix(1, 0)
	for _, s := range l.move.Streams {
		_ = s.SetWriteDeadline(past)
		_ = s.SetReadDeadline(past)
	}
}

// run writes the segments of one stripe. Its FIN follows the last of them; that of the first one waits for the end frame.
func (l *outLane) run(stripe int, s tunnel.Stream) {
	for {
		select {
		case <-l.ctx.Done():
			return
		case b, ok := <-l.blocks:
			if !ok {
				if stripe > 0 {
					l.fail(s.CloseWrite())
				}
				return
			}
			_, err := s.Write(b.frame())
			b.giveBack()
			if err != nil {
				l.fail(err)
				return
			}
		}
	}
}

// fail gives the body up because a stripe broke; it does nothing without an error.
func (l *outLane) fail(err error) {
	if err == nil || !l.failed.CompareAndSwap(nil, &err) {
		return
	}
	// The stripes first: who finds the exchange's own stream reset gives them up with another code.
	l.reset(laneReset(err))
	l.broken(err)
}

// err is why nothing more can be sent.
func (l *outLane) err() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return context.Cause(l.ctx)
}

// laneReset says how the streams of an exchange are given up because one of its stripes broke: a link that ended counts
// as silence, of which the peer makes wire.CodeTunnelDown like this side.
func laneReset(err error) tunnel.ResetCode {
	var reset *tunnel.ResetError
	var closed *tunnel.ClosedError
	var abort *AbortError
	switch {
	case errors.As(err, &closed), errors.As(err, &abort) && abort.Code == wire.CodeTunnelDown:
		return tunnel.ResetTimeout
	case errors.As(err, &reset):
		return reset.Code
	}
	return resetFor(err)
}

// lump is how many bytes make a segment now.
func (l *outLane) lump() int {
	if l.move.Lump == nil {
		return blockData
	}
	return min(max(l.move.Lump(), 1), blockData)
}

// write gathers p.
func (l *outLane) write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if l.gathered == nil {
			l.gathered = borrowBlock()
		}
		whole := max(l.lump(), l.gathered.n)
		n := copy(l.gathered.space()[l.gathered.n:whole], p)
		l.gathered.n += n
		p = p[n:]
		if l.gathered.n >= whole {
			if err := l.flush(); err != nil {
				return written, err
			}
		}
		written += n
	}
	return written, nil
}

func (l *outLane) buffered() int {
	if l.gathered == nil {
		return 0
	}
	return l.gathered.n
}

// flush sends what was gathered.
func (l *outLane) flush() error {
	if l.buffered() == 0 {
		return nil
	}
	b := l.gathered
	l.gathered = nil
	again, err := l.send(b)
	again.giveBack()
	return err
}

// send sends b, and returns a block in its place: the same one if it is free again.
func (l *outLane) send(b *block) (*block, error) {
	if l.ended { // somebody else broke it off while this was being read
		return b, errClosed
	}
	b.place(l.offset)
	if l.move.Wait != nil {
		// Who was told to hurry sends unpaced.
		if err := l.move.Wait(l.pace, b.n); err != nil && l.ctx.Err() == nil && l.pace.Err() == nil {
			l.fail(err)
		}
	}
	if l.ctx.Err() != nil {
		return b, l.err()
	}
	l.offset += uint64(b.n)
	if l.blocks == nil {
		_, err := l.move.Streams[0].Write(b.frame())
		l.fail(err)
		b.n = 0
		return b, err
	}
	select {
	case l.blocks <- b:
		return borrowBlock(), nil
	case <-l.ctx.Done():
		return b, l.err()
	}
}

// end ends the body with e behind all of its segments. An error that is wire.ErrProtocol says that e may not travel; then
// another one may be tried.
func (l *outLane) end(e *wire.End) error {
	if l.ended {
		return errClosed
	}
	first := l.move.Streams[0]
	w := newWriter(first)
	// The empty segment says how much there is.
	total := l.offset + uint64(l.buffered())
	if err := errors.Join(w.Segment(total, nil), w.End(e)); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	l.ended = true
	if l.blocks != nil {
		close(l.blocks)
		l.writers.Wait()
	}
	if l.ctx.Err() != nil {
		return l.err()
	}
	err := w.Flush()
	if err == nil {
		err = first.CloseWrite()
	}
	if err != nil {
		l.fail(err)
		return err
	}
	writers.Put(w)
	// From here on the peer's end of the exchange decides: what is still on its way must arrive.
	l.release()
	return nil
}

// hurry bounds everything that is still to be written.
func (l *outLane) hurry(until time.Time) {
	l.unpace()
	for _, s := range l.move.Streams {
		_ = s.SetWriteDeadline(until)
	}
}

// reset gives the streams up at once, also while they are written to. Who writes is told last: it closes the lane then, and
// the peer is to hear this code and no other.
func (l *outLane) reset(code tunnel.ResetCode) {
	for _, s := range l.move.Streams {
		s.Reset(code)
	}
	l.cancel()
}

// close frees the streams, which have ended if all was sent: the peer's FIN came first.
func (l *outLane) close() {
	l.release()
	whole := l.ended && l.ctx.Err() == nil
	for _, s := range l.move.Streams {
		if !whole {
			s.Reset(tunnel.ResetCancelled)
		}
	}
	l.cancel()
	l.writers.Wait()
	l.gathered.giveBack()
	l.gathered = nil
	if l.move.Done != nil {
		l.move.Done()
	}
}

// enter has the body of s go on on lane, which it closes after an error; then the body is where it was.
func (s *sender) enter(lane *outLane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errClosed
	if s.w != nil {
		err = s.w.Moved(&wire.Moved{Offset: lane.offset, Lane: wire.LaneBulk, Stripes: uint32(len(lane.move.Streams))})
	}
	if err == nil {
		err = s.flushLocked()
	}
	if err != nil {
		lane.close()
		return err
	}
	s.lane.Store(lane)
	if s.gone.Load() {
		lane.reset(tunnel.ResetCancelled)
	}
	return nil
}

// breakOff resets the exchange's own stream because of err on another one.
func (s *sender) breakOff(err error) { s.stream.Reset(laneReset(err)) }

// filler lends the buffers into which a body is read: a chunk while it is on the exchange's own stream, blocks that are
// written as they are once it has moved.
type filler struct {
	chunk    []byte
	giveBack func()
	block    *block
	lump     int // how much of it is to be filled
}

// space returns where to read to, at most limit bytes.
func (f *filler) space(s *sender, limit int64) []byte {
	if lane := s.lane.Load(); lane != nil {
		if f.block == nil {
			f.block = borrowBlock()
		}
		f.lump = lane.lump()
		return f.block.space()[:min(int64(f.lump), limit)]
	}
	if f.chunk == nil {
		f.chunk, f.giveBack = borrowChunk(min(copyChunk, limit))
	}
	return f.chunk[:min(int64(len(f.chunk)), limit)]
}

// send sends what was read to space, between two places of it; a block is sent whole.
func (f *filler) send(s *sender, from, to int) (sent int, err error) {
	if f.block == nil {
		return s.write(f.chunk[from:to], false)
	}
	n := to
	if n < f.lump/2 { // a source of small pieces, TLS records say: a block of several costs the copy, and saves writes
		return s.write(f.block.space()[:n], false)
	}
	f.block.n = n
	f.block, err = s.writeBlock(f.block)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f *filler) close() {
	if f.giveBack != nil {
		f.giveBack()
	}
	f.block.giveBack()
	f.block = nil
}
