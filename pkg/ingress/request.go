package ingress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// trip is one exchange's way to the origin.
type trip struct {
	origin *origin
	in     *exchange.Incoming
	out    *exchange.Answer

	mu       sync.Mutex // excludes an interim answer and the final one
	final    bool
	interims int

	began        atomic.Bool // the body was read from, so the exchange cannot go elsewhere
	uploadFailed atomic.Pointer[failure]
	conn         *conn
	reused       bool
	before       int64
}

// request writes the head anew for the origin. The target is the canonical path and the raw query as they came, never
// re-encoded; the address is the rule's.
func (t *trip) request(ctx context.Context) *http.Request {
	h := &t.in.Head
	req := (&http.Request{
		Method: h.Method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: h.Host,
		URL: &url.URL{
			Scheme: t.origin.url.Scheme, Host: t.origin.url.Host, Opaque: h.Path,
			RawQuery: h.RawQuery, ForceQuery: h.HasQuery,
		},
		Header: t.header(),
	}).WithContext(ctx)
	t.body(req)
	return req
}

func (t *trip) header() http.Header {
	h := &t.in.Head
	fields := hop.CleanRequest(h.Header)
	header := make(http.Header, len(fields)+6)
	values := make([]string, 0, len(fields)+7) // one allocation for the fields' slices of one value each
	one := func(value string) []string {
		values = append(values, value)
		return values[len(values)-1 : len(values) : len(values)]
	}
	for _, f := range fields {
		if already := header[f.Name]; already != nil {
			header[f.Name] = append(already, f.Value)
		} else {
			header[f.Name] = one(f.Value)
		}
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = one("") // net/http names itself otherwise
	}
	// Under its canonical name net/http takes this field for leave to send the request twice.
	if v, ok := header["Idempotency-Key"]; ok {
		delete(header, "Idempotency-Key")
		header["idempotency-key"] = v
	}
	if v, ok := header["X-Idempotency-Key"]; ok {
		delete(header, "X-Idempotency-Key")
		header["x-idempotency-key"] = v
	}
	header["X-Forwarded-For"] = one(h.ClientIP)
	header["X-Forwarded-Proto"] = one(h.Scheme)
	if h.RequestID != "" {
		header["X-Request-Id"] = one(h.RequestID)
	}
	if h.OriginAssertion != "" {
		header["Sallyport-Assertion"] = one(h.OriginAssertion)
	}
	if h.Upgrade != "" {
		header["Connection"], header["Upgrade"] = one("Upgrade"), one(h.Upgrade)
	}
	return header
}

// body gives req the exchange's body, its length and its trailer. net/http sends a request again by itself when a kept
// connection dies under it, if it has no body and looks safe; at OSCAR a GET may write, so such a request gets an empty
// body that is not NoBody, which forbids that and puts nothing on the wire.
func (t *trip) body(req *http.Request) {
	h := &t.in.Head
	switch {
	case h.ContentLength == 0 && repeatable(h.Method):
		req.Body = nothing{}
		req.TransferEncoding = []string{"identity"}
		return
	case h.ContentLength == 0:
		req.Body = http.NoBody
		return
	}
	req.ContentLength = h.ContentLength
	up := &upload{trip: t}
	if h.ContentLength < 0 && len(h.TrailerNames) > 0 {
		req.Trailer = make(http.Header, len(h.TrailerNames))
		for _, name := range h.TrailerNames {
			if hop.TrailerName(name) {
				req.Trailer[http.CanonicalHeaderKey(name)] = nil
			}
		}
		up.trailer = req.Trailer
	}
	if h.ExpectContinue {
		req.Header["Expect"] = []string{"100-continue"}
	}
	req.Body = up
}

// nothing is a body without bytes; with WriteTo it is copied without a buffer.
type nothing struct{}

func (nothing) Read([]byte) (int, error)         { return 0, io.EOF }
func (nothing) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (nothing) Close() error                     { return nil }

// repeatable lists the methods that net/http would repeat.
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// send makes the round trip. A request without a body goes out a second time only when the kept connection turned out
// dead before a single byte of it was written.
func (t *trip) send(ctx context.Context) (*http.Response, error) {
	trace := &httptrace.ClientTrace{GotConn: t.gotConn, Got1xxResponse: t.interim}
	req := t.request(httptrace.WithClientTrace(ctx, trace))
	resp, err := t.origin.transport.RoundTrip(req)
	if err != nil && t.unsent() && repeatable(req.Method) && req.ContentLength == 0 && req.Context().Err() == nil {
		again := req.Clone(req.Context())
		t.body(again)
		resp, err = t.origin.transport.RoundTrip(again)
	}
	if f := t.uploadFailed.Load(); err != nil && f != nil {
		return nil, f
	}
	return resp, err
}

func (t *trip) gotConn(info httptrace.GotConnInfo) {
	c, ok := info.Conn.(*conn)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn, t.reused, t.before = c, info.Reused, c.written.Load()
}

func (t *trip) unsent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conn != nil && t.reused && t.conn.written.Load() == t.before
}

// interim passes an interim answer on, apart from 100: that one goes out when net/http begins to read the body, which it
// does once the origin has asked for it or has kept silent for continueAfter.
func (t *trip) interim(code int, header textproto.MIMEHeader) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.interims++; t.interims > maxInterims {
		return errInterims
	}
	if t.final || code == http.StatusContinue {
		return nil
	}
	return t.out.Interim(wire.Interim{Status: code, Header: hop.AnswerFields(http.Header(header))})
}

// finish lets no interim answer through any more: the final one follows.
func (t *trip) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.final = true
}

// upload is the exchange's body as net/http sends it. A body that broke off fails the request: the connection to the origin
// is closed with the body visibly short, never ended as if it were whole.
type upload struct {
	trip    *trip
	trailer http.Header
	closed  atomic.Bool
}

var errClosed = errors.New("the request is over")

func (u *upload) Read(p []byte) (int, error) {
	if u.closed.Load() {
		return 0, errClosed
	}
	u.trip.began.Store(true)
	n, err := u.trip.in.Body.Read(p)
	switch {
	case err == io.EOF: //nolint:errorlint // a wrapped EOF is an early end
		for _, f := range u.trip.in.Trailer() {
			name := http.CanonicalHeaderKey(f.Name)
			if _, declared := u.trailer[name]; declared {
				u.trailer[name] = append(u.trailer[name], f.Value)
			}
		}
	case err != nil:
		u.trip.uploadFailed.Store(fail(wire.CodeClientAbort, "the browser's body broke off", err))
	}
	return n, err
}

func (u *upload) Close() error {
	u.closed.Store(true)
	return nil
}
