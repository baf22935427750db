package wslink

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// stream is one stream of yamux, with resets and with ends that can be told apart.
type stream struct {
	link     *Link
	yamux    *yamux.Stream
	id       uint32
	incoming bool

	mu        sync.Mutex
	readDone  bool
	writeDone bool
	reset     *tunnel.ResetError
	// woken means that yamux's deadlines are ours: they interrupt what waits, and stay.
	woken bool
}

var _ tunnel.Stream = (*stream)(nil)

// Read implements tunnel.Stream. yamux reports io.EOF after the peer's FIN and also for every stream of a session that
// died: only while the session lives is it the end of the bytes.
func (s *stream) Read(p []byte) (int, error) {
	if err := s.over(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.yamux.Read(p)
	if s.id == firstStream {
		s.link.first.read(n)
	}
	if over := s.over(); over != nil {
		return 0, over
	}
	switch {
	case err == nil, n > 0: // with bytes, what failed is the window update, and the next call reports it
		return n, nil
	case err == io.EOF && !s.link.session.IsClosed(): //nolint:errorlint // a wrapped one is the connection's
		s.finish(&s.readDone)
		return n, io.EOF
	}
	return n, s.failed(err)
}

// Write implements tunnel.Stream.
func (s *stream) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if err := s.over(); err != nil {
			return written, err
		}
		chunk := p[:min(len(p), maxChunk)]
		n, err := s.yamux.Write(chunk)
		written += n
		if err != nil {
			if over := s.over(); over != nil {
				return written, over
			}
			return written, s.failed(err)
		}
		p = p[n:]
	}
	return written, s.over()
}

// CloseWrite implements tunnel.Stream. yamux's FIN is our end of bytes; see control.go for what makes that safe.
func (s *stream) CloseWrite() error {
	if err := s.over(); err != nil {
		return err
	}
	if err := s.yamux.Close(); err != nil {
		return s.failed(err)
	}
	s.finish(&s.writeDone)
	return nil
}

// Reset implements tunnel.Stream.
func (s *stream) Reset(code tunnel.ResetCode) {
	if s.interrupt(&tunnel.ResetError{Code: code}) {
		s.link.tell(message{kind: messageReset, stream: s.id, code: uint32(code)})
	}
}

// interrupt abandons both directions, unless they have ended, and wakes whoever waits; it reports whether it did.
func (s *stream) interrupt(why *tunnel.ResetError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset != nil || s.readDone && s.writeDone {
		return false
	}
	s.reset = why
	s.interruptLocked()
	return true
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interruptLocked()
}

func (s *stream) interruptLocked() {
	s.woken = true
	interrupt(s.yamux)
	if s.id == firstStream {
		s.link.first.add(endless)
	}
}

func (s *stream) wasReset() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reset != nil
}

// over is why the stream can carry nothing more: its reset, or the end of the link.
func (s *stream) over() error {
	s.mu.Lock()
	reset := s.reset
	s.mu.Unlock()
	if reset != nil {
		return reset
	}
	return s.link.ending.Cause()
}

func (s *stream) finish(direction *bool) {
	s.mu.Lock()
	*direction = true
	ended := s.readDone && s.writeDone
	s.mu.Unlock()
	if ended {
		s.link.forget(s)
	}
}

// failed turns an error of yamux into one of the tunnel's.
func (s *stream) failed(err error) error {
	switch {
	case s.link.session.IsClosed():
		<-s.link.ending.Done() // acceptStreams or conn has the cause, or is about to
		return s.link.ending.Cause()
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed):
		return net.ErrClosed
	case errors.Is(err, yamux.ErrConnectionReset): // the peer's backlog is full; yamux has forgotten the stream
		s.interrupt(&tunnel.ResetError{Code: tunnel.ResetRefused, Remote: true})
		s.link.forget(s)
		return s.over()
	}
	s.link.fail(closedError(err))
	return s.link.ending.Cause()
}

// SetReadDeadline implements tunnel.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken {
		return nil
	}
	return s.yamux.SetReadDeadline(t)
}

// SetWriteDeadline implements tunnel.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken {
		return nil
	}
	return s.yamux.SetWriteDeadline(t)
}
