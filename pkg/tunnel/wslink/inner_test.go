package wslink_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

func BenchmarkLinkInside(b *testing.B) { linktest.Bench(b, insideTCP) }

func insideMemory(t testing.TB) *linktest.Pair {
	wire, dialer, listener := linktest.NewPipe()
	d := &wslink.Dialer{Connect: func(context.Context, string, string) (net.Conn, error) { return dialer, nil }}
	return insidePair(t, d, linktest.Listen(listener), tunnel.Target{Address: "memory:443"}, wire)
}

func insideTCP(t testing.TB) *linktest.Pair { return onSockets(t, insidePair) }

// insidePair makes a pair through a TLS that anybody could have opened: the certificate outside is another one.
func insidePair(t testing.TB, d *wslink.Dialer, l net.Listener, target tunnel.Target, wire linktest.Wire) *linktest.Pair {
	t.Helper()
	outerServer, outerClient := linktest.TLS(t)
	server, client := linktest.TLS(t)
	edge := newInsideEdge(t, l, outerServer, server)
	target.TLS, target.Outer = client, outerClient
	dialed, err := d.Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	accepted := <-edge.links
	t.Cleanup(func() {
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = accepted.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
	if info := dialed.Info(); !info.Inside || !strings.Contains(info.OpenedBy, linktest.ServerName) {
		t.Errorf("of who opens TLS the link says %q", info.OpenedBy)
	}
	return &linktest.Pair{Dialed: dialed, Accepted: accepted, Wire: wire}
}

// insideEdge takes connections inside WebSockets, and links in those.
type insideEdge struct {
	net.Listener // of the connections inside
	conns        chan net.Conn
	links        chan tunnel.Link

	mu    sync.Mutex
	inner map[string]*wslink.Inner // by the address of its peer
}

func newInsideEdge(t testing.TB, l net.Listener, outer, inner *tls.Config) *insideEdge {
	e := &insideEdge{Listener: l, conns: make(chan net.Conn), links: make(chan tunnel.Link, 1), inner: map[string]*wslink.Inner{}}
	stopped := make(chan struct{})
	e.start(t, tls.NewListener(l, outer), func(w http.ResponseWriter, r *http.Request) {
		c, err := wslink.AcceptInner(w, r)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.inner[r.RemoteAddr] = c
		e.mu.Unlock()
		select {
		case e.conns <- c:
		case <-stopped:
			_ = c.Close()
		}
	})
	e.start(t, tls.NewListener(listenerFunc{e, stopped}, inner), func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		c := e.inner[r.RemoteAddr]
		e.mu.Unlock()
		if link, err := wslink.Accept(w, r, wslink.Config{Admitted: c.Admit}); err == nil {
			e.links <- link
		}
	})
	t.Cleanup(func() { close(stopped) })
	return e
}

func (e *insideEdge) start(t testing.TB, l net.Listener, handle http.HandlerFunc) {
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: handle}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

type listenerFunc struct {
	edge    *insideEdge
	stopped chan struct{}
}

func (l listenerFunc) Accept() (net.Conn, error) {
	select {
	case c := <-l.edge.conns:
		return c, nil
	case <-l.stopped:
		return nil, net.ErrClosed
	}
}

func (l listenerFunc) Close() error   { return nil }
func (l listenerFunc) Addr() net.Addr { return l.edge.Addr() }

// Both ends of a link inside write and read at once, more than one message of each.
func TestInsideCarriesBothWays(t *testing.T) {
	p := linktest.Make(insideTCP).Admitted(t)
	sent := bytes.Repeat([]byte("both ways at once"), 64<<10)
	from, err := p.Dialed.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	back := make(chan error, 1)
	go func() {
		to, err := p.Accepted.Accept(t.Context())
		if err == nil {
			_, err = io.Copy(to, to)
		}
		if err == nil {
			err = to.CloseWrite()
		}
		back <- err
	}()
	go func() {
		_, _ = from.Write(sent)
		_ = from.CloseWrite()
	}()
	got, err := io.ReadAll(from)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
	if err := <-back; err != nil {
		t.Error(err)
	}
}

// insideOf opens the WebSocket that a connection would be inside of.
func insideOf(t *testing.T) *websocket.Conn {
	t.Helper()
	_, dialer, listener := linktest.NewPipe()
	outerServer, outerClient := linktest.TLS(t)
	server, _ := linktest.TLS(t)
	newInsideEdge(t, linktest.Listen(listener), outerServer, server)
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c := tls.Client(dialer, outerClient)
		return c, c.HandshakeContext(ctx)
	}}
	ws, _, err := websocket.Dial(t.Context(), "https://"+linktest.ServerName+wslink.InnerPath, &websocket.DialOptions{ //nolint:bodyclose // Dial leaves none to close
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{wslink.InnerSubprotocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// ends waits until the edge has closed a WebSocket, and returns how long that took.
func ends(t *testing.T, ws *websocket.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			if ctx.Err() != nil {
				t.Fatal("the edge keeps the connection")
			}
			return time.Since(began)
		}
	}
}

// Whoever comes inside a WebSocket and does not become a link has 10 s and 48 KiB, whatever is in them.
func TestInsideIsBounded(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		linktest.Bubble(t, func(t *testing.T) {
			ws := insideOf(t)
			if took := ends(t, ws); took > 11*time.Second {
				t.Errorf("silence ended after %s", took)
			}
		})
	})
	t.Run("a handshake without end", func(t *testing.T) {
		linktest.Bubble(t, func(t *testing.T) {
			ws := insideOf(t)
			// A ClientHello of 64 KiB in records of 16 KiB (RFC 8446 §4, §5.1), of which the last never comes.
			sent, record := 0, append([]byte{22, 3, 1, 64, 0}, make([]byte, 16<<10)...)
			record[5], record[6], record[7], record[8] = 1, 0, 0xff, 0xff
			for range 3 {
				if ws.Write(t.Context(), websocket.MessageBinary, record) == nil {
					sent++
				}
				clear(record[5:9])
			}
			if took := ends(t, ws); took > time.Second {
				t.Errorf("after %d records it took %s", sent, took)
			}
		})
	})
	t.Run("text", func(t *testing.T) {
		linktest.Bubble(t, func(t *testing.T) {
			ws := insideOf(t)
			_ = ws.Write(t.Context(), websocket.MessageText, []byte("hello"))
			if took := ends(t, ws); took > time.Second {
				t.Errorf("text ended it after %s", took)
			}
		})
	})
	t.Run("a link that is admitted stays", func(t *testing.T) {
		linktest.Bubble(t, func(t *testing.T) {
			p := linktest.Make(insideMemory).Admitted(t)
			select {
			case <-p.Accepted.Done():
				t.Error(p.Accepted.Cause())
			case <-time.After(time.Minute):
			}
		})
	})
}

func TestInsideRefusesWhatIsNoConnection(t *testing.T) {
	valid := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "https://edge.test"+wslink.InnerPath, nil)
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS12}
		r.Header.Set("Sec-WebSocket-Protocol", wslink.InnerSubprotocol)
		return r
	}
	for name, change := range map[string]func(*http.Request){
		"HTTP/2":           func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 },
		"no TLS":           func(r *http.Request) { r.TLS = nil },
		"a browser":        func(r *http.Request) { r.Header.Set("Origin", "https://edge.test") },
		"another protocol": func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", wslink.Subprotocol) },
		"no upgrade":       func(*http.Request) {},
	} {
		r, w := valid(), httptest.NewRecorder()
		change(r)
		if _, err := wslink.AcceptInner(w, r); err == nil || w.Code < 400 || w.Code > 499 {
			t.Errorf("%s: %v, status %d", name, err, w.Code)
		}
	}
}

// What answers outside may be the firewall, so nothing there counts as the edge's word on this connector; an edge that does not know
// connections inside answers 404, at once.
func TestAnswersOutsideAreNotTheEdges(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusOK} {
		server, client := linktest.TLS(t)
		firewall := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(status)
		}))
		firewall.TLS = server
		firewall.StartTLS()
		_, err := (&wslink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: firewall.Listener.Addr().String(), TLS: client, Outer: client})
		firewall.Close()
		var closed *tunnel.ClosedError
		if err == nil || errors.As(err, &closed) || !strings.Contains(err.Error(), http.StatusText(status)) || !strings.Contains(err.Error(), "too old") {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// Who ends the TLS outside and has a certificate for it that is trusted there cannot end the one inside.
func TestInsideIsJudgedByItself(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	firewall, trusted := linktest.TLS(t)
	_, edges := linktest.TLS(t)
	newInsideEdge(t, l, firewall, firewall)
	for _, target := range []tunnel.Target{{TLS: edges, Outer: trusted}, {TLS: edges, Outer: edges}} {
		target.Address = l.Addr().String()
		_, err := (&wslink.Dialer{}).Dial(t.Context(), target)
		want := "TLS inside"
		if target.Outer == edges {
			want = "TLS outside"
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), linktest.ServerName) {
			t.Errorf("want a refusal of the %s: %v", want, err)
		}
	}
}
