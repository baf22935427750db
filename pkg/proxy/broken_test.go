package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// errorCode asks as a script does and returns the code of the JSON answer.
func errorCode(t *testing.T, resp *http.Response) string {
	t.Helper()
	body := readAll(t, resp.Body)
	_, after, _ := strings.Cut(body, `"error":"`)
	code, _, found := strings.Cut(after, `"`)
	if !found || !strings.Contains(body, "REQUEST1") {
		t.Fatalf("status %d, body %q: no code with a request id", resp.StatusCode, body)
	}
	return code
}

func TestBadOrigins(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	selfSigned := httptest.NewTLSServer(http.NotFoundHandler())
	defer selfSigned.Close()
	answer := func(text string) string {
		return rawOrigin(t, func(c net.Conn, _ *bufio.Reader, _ string) { say(c, "%s", text) })
	}
	silent := rawOrigin(t, func(_ net.Conn, r *bufio.Reader, _ string) { _, _ = io.Copy(io.Discard, r) })
	pin := "    tls: {pin_sha256: \"sha256:" + strings.Repeat("A", 43) + "\"}\n"
	for _, c := range []struct {
		name, url, extra string
		status           int
		code             string
	}{
		{"refused", "http://" + refused.Addr().String(), "", 502, wire.CodeOriginRefused},
		{"unknown authority", selfSigned.URL, "", 502, wire.CodeOriginTLS},
		{"another key than pinned", selfSigned.URL, pin, 502, wire.CodeOriginTLS},
		{"no answer in time", silent, "    timeouts: {response_header: 200ms}\n", 504, wire.CodeOriginTimeout},
		{"hangs up", answer(""), "", 502, wire.CodeOriginAbort},
		{"not HTTP", answer("SSH-2.0-x\r\n"), "", 502, wire.CodeOriginProtocol},
		{"endless head", answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"), "", 502, wire.CodeOriginProtocol},
		{"carriage return in a value", answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\rSet-Cookie: b\r\n\r\n"), "", 502, wire.CodeOriginProtocol},
		{"two lengths", answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "", 502, wire.CodeOriginProtocol},
		{"flood of interim answers", answer(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 200) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "", 502, wire.CodeOriginProtocol},
		{"switch nobody asked for", answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), "", 502, wire.CodeOriginProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWay(t, c.url, wayConfig{extra: c.extra})
			for range 2 { // the link survives
				resp := w.do(w.request(http.MethodGet, "/oscar/x", nil))
				if got := errorCode(t, resp); got != c.code || resp.StatusCode != c.status {
					t.Errorf("%d %s, want %d %s", resp.StatusCode, got, c.status, c.code)
				}
				if r := w.result(); r.ErrorCode != c.code || r.Status != c.status {
					t.Errorf("outcome %+v", r)
				}
			}
			if w.link.Cause() != nil {
				t.Error("the link died")
			}
		})
	}
}

func TestNoLinkAndNoRule(t *testing.T) {
	w := newWay(t, origin(t, http.NotFound), wayConfig{rules: "rules:\n  - service: status:404\n"})
	w.noLink()
	resp := w.do(w.request(http.MethodGet, "/oscar/x", nil))
	if got := errorCode(t, resp); got != wire.CodeTunnelDown || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	w.noLink()
	resp = w.do(w.request(http.MethodPost, "/oscar/x", strings.NewReader("note")))
	if got := errorCode(t, resp); got != wire.CodeTunnelDown {
		t.Errorf("with a body: %d %s", resp.StatusCode, got)
	}
	resp = w.do(w.request(http.MethodGet, "/oscar/x", nil))
	if got := errorCode(t, resp); got != wire.CodeNoRule || resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

func TestAnswerThatBreaksOffNeverLooksWhole(t *testing.T) {
	for name, head := range map[string]string{
		"with a length": "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
	} {
		for _, two := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " over HTTP/2"}[two], func(t *testing.T) {
				w := newWay(t, rawOrigin(t, func(c net.Conn, _ *bufio.Reader, _ string) {
					say(c, "%s%s", head, strings.Repeat("x", 3000))
				}), wayConfig{http2: two})
				resp, err := w.client().Do(w.request(http.MethodGet, "/oscar/x", nil))
				if err == nil {
					var b []byte
					b, err = io.ReadAll(resp.Body)
					if err == nil {
						t.Fatalf("read %d bytes as a whole answer", len(b))
					}
				}
				if r := w.result(); r.ErrorCode != wire.CodeOriginAbort {
					t.Errorf("outcome %+v", r)
				}
			})
		}
	}
}

func TestUploadThatBreaksOffNeverLooksWhole(t *testing.T) {
	for name, framing := range map[string]string{
		"with a length": "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 5000),
		"chunked":       "Transfer-Encoding: chunked\r\n\r\n1388\r\n" + strings.Repeat("x", 5000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			whole := make(chan error, 1)
			w := newWay(t, origin(t, func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				whole <- err
			}), wayConfig{})
			c, _ := w.raw()
			say(c, "%s", "POST /oscar/upload HTTP/1.1\r\nHost: "+publicHost+"\r\n"+framing)
			time.AfterFunc(50*time.Millisecond, func() { _ = c.Close() })
			select {
			case err := <-whole:
				if err == nil {
					t.Error("the origin took the part for the whole")
				}
			case <-time.After(patience):
				t.Fatal("the origin still waits")
			}
			if r := w.result(); r.ErrorCode != wire.CodeClientAbort {
				t.Errorf("outcome %+v", r)
			}
		})
	}
}

func TestLinkThatDiesInTheMiddle(t *testing.T) {
	started := make(chan struct{})
	w := newWay(t, origin(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "part")
		_ = http.NewResponseController(rw).Flush()
		close(started)
		<-r.Context().Done()
	}), wayConfig{})
	resp := w.do(w.request(http.MethodGet, "/oscar/x", nil))
	<-started
	_ = w.link.Close(tunnel.Reason{Code: "lost"})
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("half an answer looks whole")
	}
	if r := w.result(); r.ErrorCode != wire.CodeTunnelDown {
		t.Errorf("outcome %+v", r)
	}
}

func TestBrowserThatLeavesFreesTheOrigin(t *testing.T) {
	began, freed := make(chan struct{}), make(chan struct{})
	w := newWay(t, origin(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(freed)
	}), wayConfig{})
	r := w.request(http.MethodGet, "/oscar/report", nil)
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := w.client().Do(r.WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	select {
	case <-freed:
	case <-time.After(patience):
		t.Fatal("the origin still works on it")
	}
	if r := w.result(); r.ErrorCode != wire.CodeClientAbort {
		t.Errorf("outcome %+v", r)
	}
}

var errWithdrawn = errors.New("withdrawn")

// leased gives the next requests a lease that revoke ends.
func (w *way) leased() (revoke func()) {
	ended := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lease = func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancelCause(ctx)
		go func() {
			select {
			case <-ended:
				cancel(errWithdrawn)
			case <-ctx.Done():
			}
		}()
		return ctx
	}
	return func() { close(ended) }
}

// lastMoment ends the lease when the answer is all but done, and notes whether its deadlines are moved after the handler:
// over HTTP/2 that crashes the process.
type lastMoment struct {
	http.ResponseWriter
	end   context.CancelFunc
	over  *atomic.Bool
	late  *atomic.Int64
	wrote bool
}

func (m *lastMoment) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (m *lastMoment) SetWriteDeadline(time.Time) error {
	if m.over.Load() {
		m.late.Add(1)
	}
	return nil
}

func (m *lastMoment) SetReadDeadline(at time.Time) error { return m.SetWriteDeadline(at) }

func (m *lastMoment) Write(p []byte) (int, error) {
	m.wrote = true
	return m.ResponseWriter.Write(p)
}

// Header is asked for behind the body only for the trailer.
func (m *lastMoment) Header() http.Header {
	if m.wrote {
		m.end()
	}
	return m.ResponseWriter.Header()
}

func TestLeaseThatEndsInTheLastMoment(t *testing.T) {
	w := newWay(t, origin(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Trailer", "X-Digest")
		_, _ = io.WriteString(rw, "whole")
	}), wayConfig{})
	var late atomic.Int64
	for range 300 {
		var over atomic.Bool
		ctx, end := context.WithCancelCause(t.Context())
		w.mu.Lock()
		w.lease = func(context.Context) context.Context { return ctx }
		w.wrap = func(rw http.ResponseWriter) http.ResponseWriter {
			return &lastMoment{rw, func() { end(errWithdrawn) }, &over, &late, false}
		}
		w.mu.Unlock()
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/oscar/x", nil)
		r.Host = publicHost
		w.serve(rec, r)
		over.Store(true)
		if r := w.result(); r.ErrorCode != "" || rec.Body.String() != "whole" {
			t.Fatalf("%+v %q", r, rec.Body)
		}
	}
	if n := late.Load(); n > 0 {
		t.Errorf("%d times the answer's deadlines were moved after it was over", n)
	}
}

// A browser that has stopped reading, or never finishes sending, is cut all the same.
func TestRevocationEndsWhatRuns(t *testing.T) {
	t.Run("download to a browser that does not read", func(t *testing.T) {
		w := newWay(t, origin(t, func(rw http.ResponseWriter, r *http.Request) {
			b := make([]byte, 64<<10)
			for r.Context().Err() == nil {
				if _, err := rw.Write(b); err != nil {
					return
				}
			}
		}), wayConfig{})
		revoke := w.leased()
		c, r := w.raw()
		say(c, "GET /oscar/backup HTTP/1.1\r\nHost: "+publicHost+"\r\n\r\n")
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		revoke()
		if res := w.result(); res.ErrorCode != wire.CodeRevoked {
			t.Errorf("outcome %+v", res)
		}
		if _, err := io.Copy(io.Discard, r); errors.Is(err, context.DeadlineExceeded) {
			t.Error("the connection is still open")
		}
	})
	// net/http lets go of a connection whose reading was cut, and would refuse each further request on it.
	t.Run("a wait for the answer, and its connection", func(t *testing.T) {
		asked := make(chan struct{})
		w := newWay(t, origin(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		}), wayConfig{})
		revoke := w.leased()
		c, r := w.raw()
		say(c, "GET /oscar/chart HTTP/1.1\r\nHost: "+publicHost+"\r\n\r\n")
		<-asked
		revoke()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("no page: %v", err)
		}
		if got := errorCode(t, resp); got != wire.CodeRevoked || !resp.Close {
			t.Errorf("%s, and the connection ends: %t", got, resp.Close)
		}
	})
	t.Run("upload that goes on", func(t *testing.T) {
		w := newWay(t, origin(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), wayConfig{})
		revoke := w.leased()
		c, r := w.raw()
		say(c, "POST /oscar/upload HTTP/1.1\r\nHost: "+publicHost+"\r\nContent-Length: 100000\r\n\r\nxxx")
		time.AfterFunc(50*time.Millisecond, revoke)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("no page: %v", err)
		}
		if got := errorCode(t, resp); got != wire.CodeRevoked || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
	})
}

// hasty is a writer with a pace: a browser may take nothing for a moment. It counts the deadlines that others set ahead.
type hasty struct {
	http.ResponseWriter
	ahead *atomic.Int64
}

func (h hasty) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h hasty) Write(p []byte) (int, error) {
	_ = http.NewResponseController(h.ResponseWriter).SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	return h.ResponseWriter.Write(p)
}

func (h hasty) SetWriteDeadline(at time.Time) error {
	if at.After(time.Now()) {
		h.ahead.Add(1)
	}
	return http.NewResponseController(h.ResponseWriter).SetWriteDeadline(at)
}

func TestBrowserThatTakesNothingIsLetGo(t *testing.T) {
	w := newWay(t, origin(t, func(rw http.ResponseWriter, r *http.Request) {
		b := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := rw.Write(b); err != nil {
				return
			}
		}
	}), wayConfig{})
	var ahead atomic.Int64
	w.wrap = func(rw http.ResponseWriter) http.ResponseWriter { return hasty{rw, &ahead} }
	c, _ := w.raw()
	say(c, "GET /oscar/backup HTTP/1.1\r\nHost: "+publicHost+"\r\n\r\n")
	if r := w.result(); r.ErrorCode != wire.CodeClientAbort {
		t.Errorf("outcome %+v", r)
	}
	// HTTP/2 acts on one even while nobody writes: an origin that thinks for longer would have its stream reset.
	if n := ahead.Load(); n > 0 {
		t.Errorf("%d deadlines are set ahead of an answer that may pause", n)
	}
}

// An origin that answers without reading the body gets its answer through at once, and nobody waits for the rest of the
// body.
func TestAnswerBeforeTheBodyIsSent(t *testing.T) {
	for name, size := range map[string]int{"small": 3, "large": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			w := newWay(t, origin(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Length", strconv.Itoa(size))
				rw.Header().Set("Connection", "close")
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				_, _ = io.Copy(rw, noise(int64(size)))
			}), wayConfig{})
			c, r := w.raw()
			say(c, "POST /oscar/upload HTTP/1.1\r\nHost: "+publicHost+"\r\nContent-Length: 100000000\r\n\r\nxxx")
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%v; outcome %+v", err, w.result())
			}
			if got := readAll(t, resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge || len(got) != size {
				t.Errorf("%d, %d bytes", resp.StatusCode, len(got))
			}
			if r := w.result(); r.ErrorCode != "" {
				t.Errorf("outcome %+v", r)
			}
		})
	}
}
