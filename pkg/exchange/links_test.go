package exchange_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

func TestExchangesOverLinks(t *testing.T) {
	for name, links := range map[string]func(testing.TB) (edge, connector tunnel.Link){
		"quic":      overQUIC,
		"websocket": overWebSocket,
	} {
		t.Run(name, func(t *testing.T) {
			exchangetest.Suite(t, func(t *testing.T) (edge, connector tunnel.Link) { return links(t) })
		})
	}
}

// TestMovedOverLinks: bulk links are TCP where there is TCP, else QUIC; exchanges the other way round.
func TestMovedOverLinks(t *testing.T) {
	quic := func(t *testing.T) (edge, connector tunnel.Link) { return overQUIC(t) }
	websocket := func(t *testing.T) (edge, connector tunnel.Link) { return overWebSocket(t) }
	t.Run("1 websocket", func(t *testing.T) { exchangetest.MovedSuite(t, quic, websocket, 1, exchangetest.InTheMiddle) })
	t.Run("3 websockets", func(t *testing.T) { exchangetest.MovedSuite(t, quic, websocket, 3, exchangetest.AtOnce) })
	t.Run("1 quic", func(t *testing.T) { exchangetest.MovedSuite(t, quic, quic, 1, exchangetest.AtOnce) })
	t.Run("3 quic", func(t *testing.T) { exchangetest.MovedSuite(t, websocket, quic, 3, exchangetest.InTheMiddle) })
}

func overQUIC(t testing.TB) (edge, connector tunnel.Link) {
	t.Helper()
	server, client := linktest.TLS(t)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := quiclink.NewListener(socket, server, quiclink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = socket.Close()
	})
	d := &quiclink.Dialer{}
	dialed, err := d.Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return admitted(t, accepted, dialed)
}

func overWebSocket(t testing.TB) (edge, connector tunnel.Link) {
	t.Helper()
	serverTLS, clientTLS := linktest.TLS(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan tunnel.Link, 1)
	server := &http.Server{
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: serverTLS,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			link, err := wslink.Accept(w, r, wslink.Config{})
			if err != nil {
				t.Errorf("accept: %v", err)
			}
			accepted <- link
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	d := &wslink.Dialer{}
	dialed, err := d.Dial(t.Context(), tunnel.Target{Address: listener.Addr().String(), TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	return admitted(t, <-accepted, dialed)
}

func admitted(t testing.TB, edge, connector tunnel.Link) (tunnel.Link, tunnel.Link) {
	edge.Admit()
	connector.Admit()
	t.Cleanup(func() {
		_ = edge.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = connector.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
	return edge, connector
}
