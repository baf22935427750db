package exchange

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// sender is the outgoing direction of an exchange. Small writes wait for company, for holdBack at most.
type sender struct {
	stream tunnel.Stream

	// mu is held while a Write is blocked by the peer's window; a reset of the stream, or a deadline, ends that.
	mu    sync.Mutex
	w     *wire.Writer // nil when the exchange is over
	timer *time.Timer
	armed bool

	// lane is where the body goes on once it has moved; stream is then for probes alone.
	lane atomic.Pointer[outLane]
	// gone says that the exchange was given up: a lane that comes now is reset.
	gone atomic.Bool
}

// put gathers what f writes. It leaves at once if flush is set or if it is much, else within holdBack.
func (s *sender) put(flush bool, f func(*wire.Writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return errClosed
	}
	if err := f(s.w); err != nil {
		return err
	}
	if flush || s.w.Buffered() >= flushSize {
		return s.flushLocked()
	}
	s.arm()
	return nil
}

// write is put for bytes of a body.
func (s *sender) write(p []byte, flush bool) (n int, err error) {
	if lane := s.lane.Load(); lane != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		n, err = lane.write(p)
		if err == nil {
			s.arm()
		}
		return n, err
	}
	err = s.put(flush, func(w *wire.Writer) error {
		n, err = w.Write(p)
		return err
	})
	return n, err
}

// writeBlock sends a block of a moved body and returns one in its place.
func (s *sender) writeBlock(b *block) (*block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lane := s.lane.Load()
	if err := lane.flush(); err != nil {
		return b, err
	}
	return lane.send(b)
}

// end ends this direction. An error that is wire.ErrProtocol says that e may not travel; another one may then.
func (s *sender) end(e *wire.End) error {
	lane := s.lane.Load()
	if lane == nil {
		return s.put(true, func(w *wire.Writer) error { return w.End(e) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disarm()
	return lane.end(e)
}

// giveUp resets the streams of a moved body; the exchange's own is the caller's.
func (s *sender) giveUp(code tunnel.ResetCode) {
	s.gone.Store(true)
	if lane := s.lane.Load(); lane != nil {
		lane.reset(code)
	}
}

// settle frees the streams of a moved body when nobody writes any more.
func (s *sender) settle() {
	if lane := s.lane.Load(); lane != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.disarm()
		lane.close()
	}
}

func (s *sender) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

// flushLocked writes everything; the caller holds mu.
func (s *sender) flushLocked() error {
	s.disarm()
	if s.w == nil {
		return errClosed
	}
	if lane := s.lane.Load(); lane != nil {
		return lane.flush()
	}
	return s.w.Flush()
}

// disarm stops the timer; the caller holds mu.
func (s *sender) disarm() {
	if s.armed {
		s.timer.Stop()
		s.armed = false
	}
}

// buffered is how many bytes wait; the caller holds mu.
func (s *sender) buffered() int {
	if lane := s.lane.Load(); lane != nil {
		return lane.buffered()
	}
	return s.w.Buffered()
}

// arm starts the timer unless it runs; the caller holds mu.
func (s *sender) arm() {
	if s.armed || s.buffered() == 0 {
		return
	}
	s.armed = true
	if s.timer == nil {
		s.timer = time.AfterFunc(holdBack, s.expire)
		return
	}
	s.timer.Reset(holdBack)
}

// expire sends what has waited long enough. An error stays in the Writer for whoever writes next.
func (s *sender) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.armed {
		_ = s.flushLocked()
	}
}

// probe finds out whether the peer has given the stream up. A sender that is busy writing will find out by itself.
func (s *sender) probe() error {
	if s.lane.Load() != nil {
		// Who is busy writing is so on other streams, and nobody else writes to this one any more.
		_, err := s.stream.Write(probe[:])
		return err
	}
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	if s.w == nil {
		return nil
	}
	s.w.Probe()
	return s.flushLocked()
}

// probe is such a frame.
var probe = [wire.FrameHeaderSize]byte{byte(wire.FrameProbe)}

// abort ends this direction with a code. If even that does not get through, the stream is reset.
func (s *sender) abort(code, message string) {
	// Set before mu is taken: it also ends a write that holds mu because the peer does not read.
	until := time.Now().Add(abortTimeout)
	_ = s.stream.SetWriteDeadline(until)
	if lane := s.lane.Load(); lane != nil {
		lane.hurry(until)
	}
	end := wire.End{Code: code, Message: message}
	if end.Validate() != nil {
		end.Message = ""
	}
	if code == "" || end.Validate() != nil {
		end.Code = wire.CodeInternal
	}
	if err := s.end(&end); err != nil {
		code := tunnel.ResetInternal
		if laneReset(err) == tunnel.ResetTimeout {
			code = tunnel.ResetTimeout // a link ended: the peer may learn it from the other link first
		}
		s.stream.Reset(code)
		s.giveUp(code)
	}
}
