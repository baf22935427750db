package exchange

import (
	"sync"
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
}

func newSender(s tunnel.Stream) *sender { return &sender{stream: s, w: newWriter(s)} }

// put gathers what f writes. It leaves at once if flush is set or if it is much, else within holdBack.
func (s *sender) put(flush bool, f func(*wire.Writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return errClosed()
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
	err = s.put(flush, func(w *wire.Writer) error {
		n, err = w.Write(p)
		return err
	})
	return n, err
}

func (s *sender) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

// flushLocked writes everything; the caller holds mu.
func (s *sender) flushLocked() error {
	if s.armed {
		s.timer.Stop()
		s.armed = false
	}
	if s.w == nil {
		return errClosed()
	}
	return s.w.Flush()
}

// arm starts the timer unless it runs; the caller holds mu.
func (s *sender) arm() {
	if s.armed || s.w.Buffered() == 0 {
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
		s.armed = false
		_ = s.w.Flush()
	}
}

// probe finds out whether the peer has given the stream up. A sender that is busy writing will find out by itself.
func (s *sender) probe() error {
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

// abort ends this direction with a code. If even that does not get through, the stream is reset.
func (s *sender) abort(code, message string) {
	// Set before mu is taken: it also ends a write that holds mu because the peer does not read.
	_ = s.stream.SetWriteDeadline(time.Now().Add(abortTimeout))
	end := wire.End{Code: code, Message: message}
	if end.Validate() != nil {
		end.Message = ""
	}
	if code == "" || end.Validate() != nil {
		end.Code = wire.CodeInternal
	}
	if err := s.put(true, func(w *wire.Writer) error { return w.End(&end) }); err != nil {
		s.stream.Reset(tunnel.ResetInternal)
	}
}
