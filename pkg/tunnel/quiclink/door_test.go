package quiclink_test

import (
	"net"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// A dialer that finds no place is told so at once, and when to come back; a place is held until the link is admitted, or the
// connection has failed.
func TestNoPlaceIsSaidBeforeTheHandshake(t *testing.T) {
	server, client := linktest.TLS(t)
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	door := &tunnel.Door{Places: 1}
	listener, err := quiclink.NewListener(socket, server, quiclink.Config{
		Enter: func(remote net.Addr) (func(), bool) { return door.Enter(remote.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	target := tunnel.Target{Address: socket.LocalAddr().String(), TLS: client}
	dial := func() (tunnel.Link, error) { return (&quiclink.Dialer{}).Dial(t.Context(), target) }
	free := func(when string) {
		for within := time.Now().Add(5 * time.Second); ; {
			if leave, ok := door.Enter("test"); ok {
				leave()
				return
			}
			if time.Now().After(within) {
				t.Fatal("the place is not given back: " + when)
			}
		}
	}
	dialed, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := dial(); tunnel.ComeBack(err) == 0 || time.Since(began) > 2*time.Second {
		t.Errorf("without a place: %v after %v", err, time.Since(began))
	}
	accepted.Admit()
	free("admitted")
	stranger := target
	stranger.ServerName = "another.test" // whose certificate is not ours: the dialer breaks the handshake off
	if _, err := (&quiclink.Dialer{}).Dial(t.Context(), stranger); err == nil {
		t.Error("another's certificate was believed")
	}
	free("a handshake that failed")
	_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
}
