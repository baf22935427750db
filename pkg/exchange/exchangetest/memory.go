package exchangetest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Window is how many bytes one direction of an in-memory stream holds before its writer waits.
const Window = 64 << 10

// Memory returns the two ends of a link without a network: what a tunnel.Link promises and nothing more, so that
// timers can run in testing/synctest.
func Memory() (edge, connector tunnel.Link) {
	a := &link{incoming: make(chan *stream, 64)}
	b := &link{incoming: make(chan *stream, 64), peer: a}
	a.peer = b
	return a, b
}

type link struct {
	peer     *link
	incoming chan *stream
	ending   tunnel.Ending

	mu      sync.Mutex
	streams []*stream
}

var _ tunnel.Link = (*link)(nil)

func (l *link) Open(ctx context.Context) (tunnel.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	there, back := newHalf(), newHalf()
	mine, theirs := &stream{in: back, out: there}, &stream{in: there, out: back}
	l.mu.Lock()
	l.streams = append(l.streams, mine)
	l.mu.Unlock()
	if err := l.Cause(); err != nil {
		return nil, err
	}
	select {
	case l.peer.incoming <- theirs:
		return mine, nil
	case <-l.Done():
		return nil, l.Cause()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) Accept(ctx context.Context) (tunnel.Stream, error) {
	select {
	case s := <-l.incoming:
		return s, nil
	case <-l.Done():
		return nil, l.Cause()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) Admit() {}

func (l *link) Export(string, []byte, int) ([]byte, error) { return nil, os.ErrInvalid }

func (l *link) Close(reason tunnel.Reason) error {
	for _, end := range [...]*link{l, l.peer} {
		// Transports report what the connection below said, which is often an io.EOF.
		cause := &tunnel.ClosedError{Reason: reason, Remote: end != l, Err: io.EOF}
		end.ending.End(cause)
		end.mu.Lock()
		for _, s := range end.streams {
			s.in.abandon(cause, cause)
			s.out.abandon(cause, cause)
		}
		end.mu.Unlock()
	}
	return nil
}

func (l *link) Done() <-chan struct{} { return l.ending.Done() }

func (l *link) Cause() error { return l.ending.Cause() }

func (l *link) Info() tunnel.Info {
	return tunnel.Info{Transport: "memory", Local: &net.UnixAddr{}, Remote: &net.UnixAddr{}}
}

type stream struct{ in, out *half }

func (s *stream) Read(p []byte) (int, error)  { return s.in.read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.write(p) }

func (s *stream) CloseWrite() error { return s.out.finish() }

func (s *stream) Reset(code tunnel.ResetCode) {
	local, remote := &tunnel.ResetError{Code: code}, &tunnel.ResetError{Code: code, Remote: true}
	s.in.abandon(local, remote)
	s.out.abandon(remote, local)
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.in.setDeadline(&s.in.readBy, t)
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.out.setDeadline(&s.out.writeBy, t)
	return nil
}

// half is one direction of a stream.
type half struct {
	mu              sync.Mutex
	changed         *sync.Cond
	data            []byte
	fin             bool
	readErr         error
	writeErr        error
	readBy, writeBy time.Time
	writes          int
}

func newHalf() *half {
	h := &half{}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readErr != nil:
			return 0, h.readErr
		case len(h.data) > 0:
			n := copy(p, h.data)
			h.data = h.data[n:]
			h.changed.Broadcast()
			return n, nil
		case h.fin:
			return 0, io.EOF
		case expired(h.readBy):
			return 0, os.ErrDeadlineExceeded
		}
		h.changed.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes++
	written := 0
	for {
		switch {
		case h.writeErr != nil:
			return written, h.writeErr
		case h.fin:
			return written, os.ErrClosed
		case expired(h.writeBy):
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		}
		if n := min(Window-len(h.data), len(p)); n > 0 {
			h.data = append(h.data, p[:n]...)
			p, written = p[n:], written+n
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

func (h *half) finish() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fin = true
	h.changed.Broadcast()
	return h.writeErr
}

// abandon ends the direction unless all of it was written and read.
func (h *half) abandon(readErr, writeErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fin && len(h.data) == 0 || h.readErr != nil {
		return
	}
	h.readErr, h.writeErr, h.data = readErr, writeErr, nil
	h.changed.Broadcast()
}

func (h *half) setDeadline(field *time.Time, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*field = t
	if !t.IsZero() {
		time.AfterFunc(max(0, time.Until(t)), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
	h.changed.Broadcast()
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }
