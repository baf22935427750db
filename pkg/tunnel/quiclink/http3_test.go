package quiclink_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

const patience = 10 * time.Second

// site is a listener that serves browsers with a handler, and a browser.
type site struct {
	t        *testing.T
	listener *quiclink.Listener
	links    chan tunnel.Link
	address  string
	tls      *tls.Config
	browser  *http.Client
	url      string
}

func serveHTTP3(t *testing.T, conf quiclink.HTTP3, handler http.HandlerFunc) *site {
	t.Helper()
	server, client := linktest.TLS(t)
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf.Handler = handler
	listener, err := quiclink.NewListener(socket, server, quiclink.Config{HTTP3: &conf})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, listener: listener, links: make(chan tunnel.Link, 1), address: socket.LocalAddr().String(), tls: client, url: "https://" + linktest.ServerName}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			link, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			s.links <- link
		}
	}()
	transport := &http3.Transport{TLSClientConfig: client.Clone(), Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, s.address, t, q)
	}}
	s.browser = &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(func() {
		_ = transport.Close()
		_ = listener.Close()
		_ = socket.Close()
		<-accepted
	})
	return s
}

func (s *site) do(r *http.Request) (*http.Response, string) {
	s.t.Helper()
	resp, err := s.browser.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

func (s *site) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// conn is a browser's connection for a test that speaks HTTP/3 by hand.
func (s *site) conn() *quic.Conn {
	s.t.Helper()
	conf := s.tls.Clone()
	conf.NextProtos = []string{quiclink.ALPNHTTP3}
	c, err := quic.DialAddr(s.t.Context(), s.address, conf, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.CloseWithError(0, "") })
	return c
}

// One socket serves links and browsers, by what they name.
func TestLinksAndBrowsersShareASocket(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.ServerName+" "+r.Host)
	})
	link, err := (&quiclink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: s.address, TLS: s.tls})
	if err != nil {
		t.Fatal(err)
	}
	accepted := <-s.links
	if _, text := s.do(s.request(http.MethodGet, "/", nil)); text != "HTTP/3.0 edge.test edge.test" {
		t.Errorf("the browser got %q", text)
	}
	_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	<-accepted.Done()
}

// A link has no one-way streams; that browsers have them on the same socket must not give connectors some to hoard.
func TestLinkWithAOneWayStreamEnds(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{}, func(http.ResponseWriter, *http.Request) {})
	conf := s.tls.Clone()
	conf.NextProtos = []string{tunnel.ALPN}
	c, err := quic.DialAddr(t.Context(), s.address, conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	link := <-s.links
	stray, err := c.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stray.Write([]byte("x"))
	<-link.Done()
	var closed *tunnel.ClosedError
	if !errors.As(link.Cause(), &closed) || closed.Reason.Code != tunnel.ReasonProtocol {
		t.Errorf("the link ended with %v", link.Cause())
	}
	<-c.Context().Done()
}

// What net/http promises of a request holds: without a body there is none, and its length is known.
func TestBrowsersRequestReadsAsOverTCP(t *testing.T) {
	type seen struct {
		length  int64
		nobody  bool
		body    string
		trailer string
	}
	got := make(chan seen, 1)
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got <- seen{r.ContentLength, r.Body == http.NoBody, string(text), r.Trailer.Get("X-Digest")}
	})
	trailed := s.request(http.MethodPost, "/", io.MultiReader(strings.NewReader("abc")))
	trailed.Trailer = http.Header{"X-Digest": {"d"}}
	for name, c := range map[string]struct {
		r    *http.Request
		want seen
	}{
		"GET":                 {s.request(http.MethodGet, "/", nil), seen{nobody: true}},
		"DELETE with a body":  {s.request(http.MethodDelete, "/", io.MultiReader(strings.NewReader("abc"))), seen{length: -1, body: "abc"}},
		"POST with a length":  {s.request(http.MethodPost, "/", strings.NewReader("abc")), seen{length: 3, body: "abc"}},
		"POST with a trailer": {trailed, seen{length: -1, body: "abc", trailer: "d"}},
		"POST of nothing":     {s.request(http.MethodPost, "/", http.NoBody), seen{nobody: true}},
	} {
		s.do(c.r)
		if have := <-got; have != c.want {
			t.Errorf("%s: %+v, want %+v", name, have, c.want)
		}
	}
}

// What handlers write arrives as they meant it, without what HTTP/3 forbids.
func TestBrowsersAnswerIsWellFormed(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Connection", "close")
		h.Set("Transfer-Encoding", "chunked")
		h.Set("Trailer", "X-Digest")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "<!doctype html>")
		h.Set("X-Digest", "d")
	})
	hints := 0
	trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }}
	r := s.request(http.MethodGet, "/", nil)
	resp, text := s.do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if text != "<!doctype html>" || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || resp.Trailer.Get("X-Digest") != "d" || hints != 1 {
		t.Errorf("%q, %v, trailer %v, %d hints", text, resp.Header, resp.Trailer, hints)
	}
	for _, name := range []string{"Connection", "Transfer-Encoding"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("%s reached the browser", name)
		}
	}
	if resp, _ = s.do(s.request(http.MethodHead, "/", nil)); resp.Header.Get("Content-Length") != "" {
		t.Errorf("HEAD claims a length of %s", resp.Header.Get("Content-Length"))
	}
}

// An answer that breaks off must not look whole.
func TestAbortedAnswerIsAnErrorToTheBrowser(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 64<<10))
		panic(http.ErrAbortHandler)
	})
	resp, err := s.browser.Do(s.request(http.MethodGet, "/", nil))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("the broken answer looks whole")
	}
}

// A browser that leaves ends its request with a cause that nobody takes for a revocation; one whose connection goes, too.
func TestBrowserThatLeavesEndsItsRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error)
	s := serveHTTP3(t, quiclink.HTTP3{}, func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	})
	for _, c := range []struct {
		name  string
		leave func(cancel func())
	}{
		{"cancel", func(cancel func()) { cancel() }},
		{"close", func(func()) { _ = s.browser.Transport.(*http3.Transport).Close() }}, // last: it opens no more
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := s.browser.Do(s.request(http.MethodGet, "/", nil).WithContext(ctx)); err == nil {
				_ = resp.Body.Close()
			}
		}()
		<-began
		c.leave(cancel)
		if cause := <-ended; !errors.Is(cause, context.Canceled) {
			t.Errorf("%s: cause %v", c.name, cause)
		}
		cancel()
		<-done
	}
}

// Deadlines reach a handler that waits for a browser in either direction: that is how a permission's end cuts it.
func TestDeadlinesCutABrowser(t *testing.T) {
	failed := make(chan error, 1)
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Method == http.MethodPost {
			_ = control.SetReadDeadline(time.Unix(1, 0))
			_, err := r.Body.Read(make([]byte, 1))
			failed <- err
			return
		}
		_ = control.SetWriteDeadline(time.Unix(1, 0))
		_, err := w.Write(make([]byte, 64<<10))
		failed <- err
		panic(http.ErrAbortHandler)
	})
	body, hold := io.Pipe()
	defer hold.Close()
	for _, r := range []*http.Request{s.request(http.MethodPost, "/", body), s.request(http.MethodGet, "/", nil)} {
		resp, err := s.browser.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err := <-failed; err == nil {
			t.Errorf("%s went on after its deadline", r.Method)
		}
	}
}

func TestBigBodiesOverHTTP3(t *testing.T) {
	const size = 8 << 20
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	sent, came := sha256.New(), sha256.New()
	body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	resp, err := s.browser.Do(s.request(http.MethodPost, "/", body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(came, resp.Body); err != nil || n != size || !bytes.Equal(sent.Sum(nil), came.Sum(nil)) {
		t.Errorf("%d bytes came back, %v", n, err)
	}
}

// A head that does not come is not waited for.
func TestSlowHeadIsCut(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{HeaderTimeout: 100 * time.Millisecond}, func(http.ResponseWriter, *http.Request) { t.Error("a handler ran") })
	// HEADERS, 16 bytes long, of which two come; and a GET whose stream stays open after its head.
	for name, bytes := range map[string][]byte{
		"half a head":         {0x01, 0x10, 0x00, 0x00},
		"GET of unknown size": append([]byte{0x01, 0x10, 0x00, 0x00, 0xd1, 0xd7, 0x50, 0x09}, "edge.test\xc1"...)[:18],
	} {
		c := s.conn()
		stream, err := c.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = stream.Write(bytes)
		_ = stream.SetReadDeadline(time.Now().Add(patience))
		var cut *quic.StreamError
		if _, err := io.Copy(io.Discard, stream); !errors.As(err, &cut) || !cut.Remote {
			t.Errorf("%s: the stream ended with %v", name, err)
		}
	}
}

// However many requests a browser begins and resets, no more handlers work for it than it may have.
func TestResetsBuyNoMoreHandlers(t *testing.T) {
	const most = 5
	var now, peak atomic.Int64
	release := make(chan struct{})
	full := make(chan struct{}, 1000)
	s := serveHTTP3(t, quiclink.HTTP3{MaxStreams: most}, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		if n >= most {
			full <- struct{}{}
		}
		<-release // a handler that does not see the reset
	})
	c := s.conn()
	head := get()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	opened := 0
	for ; opened < 1000; opened++ {
		stream, err := c.OpenStreamSync(ctx)
		if err != nil {
			break
		}
		_, _ = stream.Write(head)
		_ = stream.Close()
		if opened >= most {
			stream.CancelWrite(0)
		}
		stream.CancelRead(0)
	}
	<-full
	close(release)
	if peak.Load() > most || opened > 3*most {
		t.Errorf("%d handlers at once for %d streams, want %d", peak.Load(), opened, most)
	}
}

// A drained listener finishes what is at work and takes nothing more.
func TestDrainFinishesRequests(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	s := serveHTTP3(t, quiclink.HTTP3{}, func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	answered := make(chan string)
	go func() {
		resp, err := s.browser.Do(s.request(http.MethodGet, "/", nil))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answered <- string(text)
	}()
	<-began
	drained := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		defer close(drained)
		s.listener.DrainHTTP3(ctx)
	}()
	close(finish)
	if text := <-answered; text != "done" {
		t.Errorf("the request at work got %q", text)
	}
	<-drained
	if ctx.Err() != nil {
		t.Error("the drain waited for nothing")
	}
	if resp, err := s.browser.Do(s.request(http.MethodGet, "/", nil)); err == nil {
		_ = resp.Body.Close()
		t.Error("a request was taken after the drain")
	}
}

func TestTooManyBrowsersAreTurnedAway(t *testing.T) {
	s := serveHTTP3(t, quiclink.HTTP3{Enter: func(net.Addr) (func(), bool) { return nil, false }}, func(http.ResponseWriter, *http.Request) { t.Error("a handler ran") })
	c := s.conn()
	<-c.Context().Done()
	var closed *quic.ApplicationError
	if cause := context.Cause(c.Context()); !errors.As(cause, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
		t.Errorf("turned away with %v", cause)
	}
}
