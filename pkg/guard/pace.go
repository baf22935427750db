package guard

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/gather"
)

// How slow a body may be. There is no limit on its size or its whole time.
const (
	// BodyIdle is how long one read or write may wait for the peer.
	BodyIdle = 60 * time.Second
	// MinRate is what a request's body must bring on average, in bytes per second of waiting for it, after the first BodyIdle.
	MinRate = 240
)

// ErrSlow ends a request's body that comes too slowly.
var ErrSlow = errors.New("the request's body comes too slowly")

// Pace bounds how slow a peer may be while a handler reads from it or writes to it. Only waiting for the peer counts: while
// the handler itself is busy or held up elsewhere, no timer runs. At the end of the body it also checks the names of
// the trailers, of which net/http takes more than were announced.
func Pace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		pw := &writer{ResponseWriter: w, rc: rc, request: r, watch: watch{deadline: rc.SetWriteDeadline}}
		defer pw.watch.end()
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(pw, r)
			return
		}
		b := &body{ReadCloser: r.Body, request: r, watch: watch{deadline: rc.SetReadDeadline}}
		defer b.watch.end()
		// net/http looks at the body of its own request when it writes the head, so that one stays as it is.
		own := r.WithContext(r.Context())
		own.Body = b
		next.ServeHTTP(pw, own)
		if r.ProtoMajor == 1 && b.err != io.EOF && (b.err != nil || pw.duplex) { //nolint:errorlint // a wrapped one is a broken body
			_ = rc.SetReadDeadline(time.Now()) // the rest is not waited for
			last(w)
		}
	})
}

// last ends an HTTP/1.1 connection with this answer. Where a body broke, or was left unread, nobody knows where the next
// request begins, and what remains on the wire must not be taken for one. net/http sees to that itself unless full duplex
// is enabled: then it forgets the fault. A body over its limit is the only thing by which a handler can still tell it so
// once the head is written.
func last(w http.ResponseWriter) {
	_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}

// watch makes a deadline pass when one wait has lasted for BodyIdle. A deadline that is merely set ahead would do harm:
// HTTP/2 acts on it even while nobody reads or writes.
type watch struct {
	deadline func(time.Time) error
	fired    atomic.Bool

	mu    sync.Mutex  // guards both; held while the deadline is set
	timer *time.Timer // nil before the first wait: most requests have no body
	over  bool        // the handler has returned
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(BodyIdle, w.fire)
		return
	}
	w.timer.Reset(BodyIdle)
}

func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.fired.Store(true)
	// A writer without deadlines (a test's recorder) has no peer that could be slow.
	_ = w.deadline(time.Now())
}

// stop ends the wait that the same goroutine started.
func (w *watch) stop() { w.timer.Stop() }

// end returns once the deadline is not being set and never will be: net/http's writer must not be touched after the
// handler, and over HTTP/2 that would be a crash.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.over = true
}

type body struct {
	io.ReadCloser
	request *http.Request
	watch   watch
	waited  time.Duration
	bytes   int64
	err     error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	began := time.Now()
	b.watch.start()
	n, err := b.ReadCloser.Read(p)
	b.watch.stop()
	b.waited += time.Since(began)
	b.bytes += int64(n)
	switch {
	case err == io.EOF:
		b.err = b.trailers()
	case err != nil && b.watch.fired.Load():
		b.err = ErrSlow
	case err != nil:
		b.err = err
	case b.waited > BodyIdle && float64(b.bytes) < b.waited.Seconds()*MinRate:
		b.err = ErrSlow
	}
	return n, b.err
}

func (b *body) trailers() error {
	if refusal := CheckTrailer(b.request.Trailer); refusal != nil {
		return refusal
	}
	return io.EOF
}

type writer struct {
	http.ResponseWriter
	rc      *http.ResponseController
	request *http.Request
	watch   watch
	duplex  bool
}

var (
	_ http.Flusher  = (*writer)(nil)
	_ http.Hijacker = (*writer)(nil)
)

// Unwrap lets http.ResponseController reach what lies below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// EnableFullDuplex is what http.ResponseController calls.
func (w *writer) EnableFullDuplex() error {
	w.duplex = true
	return w.rc.EnableFullDuplex()
}

func (w *writer) Write(p []byte) (int, error) {
	w.watch.start()
	defer w.watch.stop()
	under := w.under(len(p))
	if under == nil {
		return w.ResponseWriter.Write(p)
	}
	under.Hold()
	n, err := w.ResponseWriter.Write(p)
	if released := under.Release(); err == nil {
		err = released
	}
	return n, err
}

// under is the socket, where a write of n bytes makes several to it, and at once: with HTTP/1.1 only.
func (w *writer) under(n int) gather.Holder {
	if n <= tlsRecord || w.request.ProtoMajor != 1 {
		return nil
	}
	return gather.From(w.request.Context())
}

// tlsRecord is how much a record of TLS holds (RFC 8446 §5.1).
const tlsRecord = 16 << 10

func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	w.watch.start()
	defer w.watch.stop()
	return w.rc.Flush()
}

func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.rc.Hijack() }
