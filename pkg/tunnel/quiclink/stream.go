package quiclink

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// stream pairs the two halves of a QUIC stream. In QUIC each half ends by itself, and quic-go gives the peer's credit
// back only when both have ended and, for a half that the peer cancelled, when the application has seen it. So a
// cancel seen on one half is answered on the other one here: no caller has to know.
type stream struct {
	link     *Link
	quic     *quic.Stream
	incoming bool
	begun    atomic.Bool // something was written

	mu        sync.Mutex
	readDone  bool
	writeDone bool
	reset     *tunnel.ResetError
}

var _ tunnel.Stream = (*stream)(nil)

func (l *Link) newStream(q *quic.Stream, incoming bool) *stream {
	return &stream{link: l, quic: q, incoming: incoming}
}

// Read implements tunnel.Stream.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	if n > 0 {
		s.link.read.Store(int64(time.Since(s.link.began)))
	}
	if s.incoming && n > 0 && !s.link.hold.Bytes(n) {
		s.link.fail(&tunnel.ClosedError{Reason: s.link.hold.Exceeded()})
		return 0, s.link.ending.Cause()
	}
	if err == nil {
		return n, nil
	}
	// quic-go reports the FIN as io.EOF itself. What ended the connection may have an io.EOF in its chain, that of the socket,
	// and must not pass for the end of the bytes.
	if err == io.EOF { //nolint:errorlint // the reason is above
		s.finish(&s.readDone)
		return n, io.EOF
	}
	return n, s.failed(err)
}

// Write implements tunnel.Stream.
func (s *stream) Write(p []byte) (int, error) {
	var n int
	var err error
	if first := !s.begun.Swap(true); first && !s.incoming && len(p) <= firstBytes {
		n, err = s.link.together.write(s.quic, p)
	} else {
		n, err = s.quic.Write(p)
	}
	if err == nil {
		return n, nil
	}
	return n, s.failed(err)
}

// CloseWrite implements tunnel.Stream: quic-go's Close ends the sending half only.
func (s *stream) CloseWrite() error {
	if err := s.quic.Close(); err != nil {
		return s.failed(context.Cause(s.quic.Context()))
	}
	s.finish(&s.writeDone)
	return nil
}

// Reset implements tunnel.Stream.
func (s *stream) Reset(code tunnel.ResetCode) { s.abandon(&tunnel.ResetError{Code: code}) }

// finish marks one direction as ended.
func (s *stream) finish(direction *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.readDone && s.writeDone
	*direction = true
	if !was && s.readDone && s.writeDone {
		s.left()
	}
}

// abandon cancels what has not ended. A FIN that is under way must not be recalled by a late Reset, so nothing happens
// once both directions have ended.
func (s *stream) abandon(why *tunnel.ResetError) {
	s.mu.Lock()
	if s.readDone && s.writeDone {
		s.mu.Unlock()
		return
	}
	s.reset = why
	s.readDone, s.writeDone = true, true
	s.left()
	s.mu.Unlock()
	s.quic.CancelWrite(quic.StreamErrorCode(why.Code))
	s.quic.CancelRead(quic.StreamErrorCode(why.Code))
}

// left returns the slot of an incoming stream; once.
func (s *stream) left() {
	if s.incoming {
		s.link.open.Add(-1)
	}
}

// failed turns an error of quic-go into one of the tunnel's.
func (s *stream) failed(err error) error {
	var cancelled *quic.StreamError
	switch {
	case errors.As(err, &cancelled):
		if cancelled.Remote {
			s.abandon(&tunnel.ResetError{Code: tunnel.ResetCode(cancelled.ErrorCode), Remote: true})
		}
		return &tunnel.ResetError{Code: tunnel.ResetCode(cancelled.ErrorCode), Remote: cancelled.Remote || s.resetByPeer()}
	case errors.Is(err, quic.ErrStreamClosed):
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return s.link.ended(err)
}

func (s *stream) resetByPeer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reset != nil && s.reset.Remote
}

// SetReadDeadline implements tunnel.Stream.
func (s *stream) SetReadDeadline(t time.Time) error { return s.quic.SetReadDeadline(t) }

// SetWriteDeadline implements tunnel.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.quic.SetWriteDeadline(t) }
