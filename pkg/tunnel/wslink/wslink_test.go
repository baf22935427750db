package wslink_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLink(t *testing.T) { linktest.Run(t, inMemory) }

func TestLinkOverTCP(t *testing.T) { linktest.RunReal(t, overTCP) }

func inMemory(t testing.TB) *linktest.Pair {
	wire, dialer, listener := linktest.NewPipe()
	d := &wslink.Dialer{Connect: func(context.Context, string, string) (net.Conn, error) { return dialer, nil }}
	return pair(t, d, linktest.Listen(listener), "memory:443", wire)
}

func overTCP(t testing.TB) *linktest.Pair {
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
	return pair(t, d, wire, l.Addr().String(), wire)
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

func pair(t testing.TB, d *wslink.Dialer, l net.Listener, address string, wire linktest.Wire) *linktest.Pair {
	t.Helper()
	server, client := linktest.TLS(t)
	results := serve(t, l, server)
	dialed, err := d.Dial(t.Context(), tunnel.Target{Address: address, TLS: client})
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
