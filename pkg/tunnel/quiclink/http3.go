package quiclink

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// ALPNHTTP3 is the protocol that browsers name for HTTP/3 (RFC 9114 §3.1).
const ALPNHTTP3 = http3.NextProtoH3

// HTTP3 says how a Listener serves browsers. One quic.Config serves all protocols of a socket; what must differ for browsers
// is kept here, where their streams are accepted.
type HTTP3 struct {
	// Handler answers. Its requests have a length of 0 and no body where none came, and contexts without a cause, as net/http's.
	Handler http.Handler
	// Enter takes a place for a connection, after its address and its host are proved, or says that there is none. nil: always.
	Enter func(remote net.Addr) (leave func(), ok bool)
	// HeaderTimeout bounds how long the head of a request may take, and a request without a declared length how long it may
	// leave open whether a body follows; default 5 s.
	HeaderTimeout time.Duration
	// IdleTimeout ends a connection without requests; default 75 s.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds a head as RFC 9114 §4.2.2 counts it, 32 bytes for each field on top; default 40 KiB.
	MaxHeaderBytes int
	// MaxStreams is how many requests of a connection are at work at once, those that the browser has given up included;
	// default 100.
	MaxStreams int
}

const (
	// browserIdle and browserPing are the listener's where it serves browsers: those need no probing every two seconds, and
	// connectors, who ask for less idle time and probe by themselves, lose nothing by it.
	browserIdle = 30 * time.Second
	browserPing = 15 * time.Second
	// browserUni is how many one-way streams a peer may have open: control, two of QPACK (RFC 9114 §6.2), and some of the kinds
	// that are to be ignored.
	browserUni = 8
	// linger is how long a connection that drains stays after its last answer: closing it drops what is still under way
	// (RFC 9000 §10.2), and nothing tells when the browser has all.
	linger = 3 * time.Second
)

func (h HTTP3) withDefaults() *HTTP3 {
	h.HeaderTimeout = orDefault(h.HeaderTimeout, 5*time.Second)
	h.IdleTimeout = orDefault(h.IdleTimeout, 75*time.Second)
	h.MaxHeaderBytes = orDefault(h.MaxHeaderBytes, 40<<10)
	h.MaxStreams = orDefault(h.MaxStreams, 100)
	return &h
}

// browsers are the HTTP/3 connections of a Listener.
type browsers struct {
	conf   *HTTP3
	server *http3.Server

	mu      sync.Mutex // guards closed; a connection is added to serving only while it is false
	closed  bool
	serving sync.WaitGroup
	// draining ends when no new request is taken, cut when those at work are not waited for.
	draining, cut         context.Context
	startDraining, cutAll context.CancelFunc
}

func newBrowsers(conf HTTP3) *browsers {
	b := &browsers{conf: conf.withDefaults()}
	b.server = &http3.Server{
		Handler: http.HandlerFunc(b.request), MaxHeaderBytes: b.conf.MaxHeaderBytes, IdleTimeout: b.conf.IdleTimeout,
		Logger: slog.New(slog.DiscardHandler), // its lines quote what strangers send
	}
	b.cut, b.cutAll = context.WithCancel(context.Background())
	b.draining, b.startDraining = context.WithCancel(b.cut)
	return b
}

// serve speaks with one browser, in a goroutine of its own.
func (b *browsers) serve(conn *quic.Conn) {
	leave, ok := func() {}, true
	if b.conf.Enter != nil {
		leave, ok = b.conf.Enter(conn.RemoteAddr())
	}
	if !ok {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		leave()
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		return
	}
	b.serving.Go(func() {
		defer leave()
		b.connection(conn)
	})
}

// connection takes the streams of a connection. It does itself what http3.Server would do, because that one begins a request
// for every stream, has no time limit on heads, and forgets a request that the browser has reset while its handler still works.
func (b *browsers) connection(conn *quic.Conn) {
	raw, err := b.server.NewRawServerConn(conn)
	if err != nil {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeInternalError), "")
		return
	}
	var requests, others sync.WaitGroup
	others.Go(func() {
		for {
			s, err := conn.AcceptUniStream(conn.Context())
			if err != nil {
				return
			}
			others.Go(func() { raw.HandleUnidirectionalStream(s) })
		}
	})
	stop := context.AfterFunc(b.cut, func() { _ = raw.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") })
	defer stop()
	last := b.requests(conn, raw, &requests)
	refusing := b.refuse(conn, &others)
	requests.Wait()
	b.delivered(conn, time.Unix(0, last.Load()))
	refusing()
	_ = raw.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	others.Wait()
}

// requests serves what the browser asks until the connection ends or drains. A place is taken before a stream is accepted:
// streams that nobody accepted give the peer no credit back, even when it has reset them, so that a flood of resets is held
// to MaxStreams handlers and as many waiting streams. It returns when the last answer ended, Unix nanoseconds.
func (b *browsers) requests(conn *quic.Conn, raw *http3.RawServerConn, running *sync.WaitGroup) (last *atomic.Int64) {
	ctx, cancel := context.WithCancel(conn.Context())
	defer cancel()
	defer context.AfterFunc(b.draining, cancel)()
	last = &atomic.Int64{}
	places := make(chan struct{}, b.conf.MaxStreams)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return last
		}
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			return last
		}
		_ = s.SetReadDeadline(time.Now().Add(b.conf.HeaderTimeout))
		running.Go(func() {
			defer func() { <-places }()
			raw.HandleRequestStream(s)
			last.Store(time.Now().UnixNano())
		})
	}
}

// delivered returns when an answer that was last written to at a time has probably arrived.
func (b *browsers) delivered(conn *quic.Conn, last time.Time) {
	limit := time.NewTimer(linger - time.Since(last))
	defer limit.Stop()
	select {
	case <-limit.C:
	case <-conn.Context().Done():
	case <-b.cut.Done():
	}
}

// refuse turns further requests away in the way that lets a browser send them again elsewhere (RFC 9114 §8.1,
// H3_REQUEST_REJECTED), until the function that it returns is called. http3 keeps the control stream to itself, so that there
// is no GOAWAY.
func (b *browsers) refuse(conn *quic.Conn, running *sync.WaitGroup) (stop func()) {
	ctx, cancel := context.WithCancel(conn.Context())
	running.Go(func() {
		for {
			s, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			s.ReleaseStreamCredit()
			s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
			s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		}
	})
	return cancel
}

// drain takes no more requests and waits for those at work, until ctx ends.
func (b *browsers) drain(ctx context.Context) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.startDraining()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.serving.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// close cuts what is still there and waits for the handlers, which their contexts end.
func (b *browsers) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cutAll()
	b.serving.Wait()
}

// request turns http3's reading of a request into net/http's, which everything behind it relies on.
func (b *browsers) request(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	// Not a child of the connection's context, whose cause is what ended the connection: the cause of a request's end is the
	// handler's way to tell a browser that left from a permission that ended, and net/http gives none.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(r.Context(), cancel)()
	body := &requestBody{ReadCloser: r.Body, original: r, announced: r.Trailer}
	own := r.WithContext(ctx)
	body.own = own
	own.Body = body
	switch {
	case r.ContentLength == 0:
		own.Body = http.NoBody
	case r.ContentLength < 0 && !mayStream(r):
		// http3 does not say whether the stream ended with the head (RFC 9114 §4.1).
		switch err := body.peek(); {
		case err == io.EOF: //nolint:errorlint // a wrapped one is a broken body
			own.Body, own.ContentLength = http.NoBody, 0
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
	_ = control.SetReadDeadline(time.Time{})
	answer := &answerWriter{ResponseWriter: w, control: control}
	b.conf.Handler.ServeHTTP(answer, own)
	if r.Method == http.MethodHead && w.Header().Get("Content-Length") == "" {
		_ = answer.FlushError() // else http3 claims that the page is empty
	}
}

// mayStream reports whether a body without a length may begin whenever the browser likes.
func mayStream(r *http.Request) bool {
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch || r.Method == http.MethodConnect
}

// requestBody is http3's body with the manners of net/http's: no empty reads, and trailers in the map that announced them.
type requestBody struct {
	io.ReadCloser
	original, own *http.Request
	announced     http.Header
	first         []byte // read already
}

// peek waits for the first byte or the end.
func (b *requestBody) peek() error {
	var one [1]byte
	n, err := b.Read(one[:])
	if n > 0 {
		b.first = one[:n]
		return nil
	}
	return err
}

func (b *requestBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	for {
		n, err := b.ReadCloser.Read(p)
		if err == io.EOF { //nolint:errorlint // a wrapped one is a broken body
			b.trailer()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// trailer moves what came after the body to where the handler sees it; http3 puts it into a new map of its own request.
func (b *requestBody) trailer() {
	came := b.original.Trailer
	if b.announced == nil {
		b.own.Trailer = came
		return
	}
	for name, values := range came {
		b.announced[name] = values
	}
}

// answerWriter leaves out what HTTP/3 has no place for (RFC 9114 §4.2): a browser takes such an answer for a broken one.
type answerWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	headed  bool
}

var _ http.Flusher = (*answerWriter)(nil)

// Unwrap lets http.ResponseController reach the deadlines.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *answerWriter) WriteHeader(status int) {
	h := w.Header()
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
	w.headed = w.headed || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if !w.headed {
		w.WriteHeader(w.implied(p))
	}
	return w.ResponseWriter.Write(p)
}

// implied names the type of an answer as net/http would, before the head is complete.
func (w *answerWriter) implied(p []byte) int {
	if _, ok := w.Header()["Content-Type"]; !ok && len(p) > 0 {
		w.Header().Set("Content-Type", http.DetectContentType(p))
	}
	return http.StatusOK
}

func (w *answerWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *answerWriter) FlushError() error {
	if !w.headed {
		w.WriteHeader(http.StatusOK)
	}
	return w.control.Flush()
}
