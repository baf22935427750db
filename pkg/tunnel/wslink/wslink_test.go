package wslink_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

func TestMain(m *testing.M) {
	if linktest.DialIdle(&wslink.Dialer{}) {
		return
	}
	goleak.VerifyTestMain(m)
}

func TestLink(t *testing.T) { linktest.Run(t, inMemory) }

func TestLinkOverTCP(t *testing.T) { linktest.RunReal(t, overTCP) }

func inMemory(t testing.TB) *linktest.Pair {
	wire, dialer, listener := linktest.NewPipe()
	d := &wslink.Dialer{Connect: func(context.Context, string, string) (net.Conn, error) { return dialer, nil }}
	return pair(t, d, linktest.Listen(listener), tunnel.Target{Address: "memory:443"}, wire)
}

// TestWindows: a stream of a link for bulk alone takes 6 MiB that nobody has read yet, one of a shared link 1 MiB.
func TestWindows(t *testing.T) {
	for name, want := range map[string]int{"shared": 1 << 20, "bulk": 6 << 20} {
		t.Run(name, func(t *testing.T) {
			linktest.Bubble(t, func(t *testing.T) {
				wire, dialer, listener := linktest.NewPipe()
				d := &wslink.Dialer{Connect: func(context.Context, string, string) (net.Conn, error) { return dialer, nil }}
				p := pair(t, d, linktest.Listen(listener), tunnel.Target{Address: "memory:443", Bulk: want > 1<<20}, wire)
				for _, ends := range [][2]tunnel.Link{{p.Dialed, p.Accepted}, {p.Accepted, p.Dialed}} {
					ends[0].Admit()
					ends[1].Admit()
					if got := unread(t, ends[0], ends[1]); got < want || got > want+256<<10 {
						t.Errorf("%d bytes left, want %d", got, want)
					}
				}
			})
		})
	}
}

// unread is how many bytes a stream takes of which only the first is read.
func unread(t *testing.T, from, to tunnel.Link) int {
	t.Helper()
	out, err := from.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for piece := make([]byte, 16<<10); ; {
			n, err := out.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	in, err := to.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second) // of fake time
	got := int(sent.Load())
	out.Reset(tunnel.ResetCancelled)
	in.Reset(tunnel.ResetCancelled)
	<-ended
	return got
}

func overTCP(t testing.TB) *linktest.Pair { return onSockets(t, pair) }

// onSockets makes a pair over TCP.
func onSockets(t testing.TB, pair func(testing.TB, *wslink.Dialer, net.Listener, tunnel.Target, linktest.Wire) *linktest.Pair) *linktest.Pair {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wire := &sockets{Listener: l}
	d := &wslink.Dialer{Connect: func(ctx context.Context, network, address string) (net.Conn, error) {
		var nd net.Dialer
		wire.dialed, err = nd.DialContext(ctx, network, address)
		return wire.dialed, err
	}}
	return pair(t, d, wire, tunnel.Target{Address: l.Addr().String()}, wire)
}

// sockets are real ones; they can only be killed.
type sockets struct {
	net.Listener
	dialed, accepted net.Conn
}

func (s *sockets) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.accepted = c
	}
	return c, err
}

func (s *sockets) Blackhole(linktest.End) { panic("real sockets cannot be blackholed") }

func (s *sockets) Kill(end linktest.End) {
	if end == linktest.Dialer {
		_ = s.dialed.Close()
		return
	}
	_ = s.accepted.Close()
}

// serve runs an edge's side on l; links and errors of Accept go to the channel.
func serve(t testing.TB, l net.Listener, conf *tls.Config) <-chan any {
	results := make(chan any, 1)
	server := &http.Server{
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: conf,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			link, err := wslink.Accept(w, r, wslink.Config{})
			if err != nil {
				results <- err
				return
			}
			results <- link
		}),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(tls.NewListener(l, conf)) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return results
}

func pair(t testing.TB, d *wslink.Dialer, l net.Listener, target tunnel.Target, wire linktest.Wire) *linktest.Pair {
	t.Helper()
	server, client := linktest.TLS(t)
	results := serve(t, l, server)
	target.TLS = client
	dialed, err := d.Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	accepted, ok := (<-results).(tunnel.Link)
	if !ok {
		t.Fatal("not accepted")
	}
	t.Cleanup(func() {
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = accepted.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
	return &linktest.Pair{Dialed: dialed, Accepted: accepted, Wire: wire}
}

func BenchmarkLink(b *testing.B) { linktest.Bench(b, overTCP) }
