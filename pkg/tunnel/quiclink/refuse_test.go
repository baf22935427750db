package quiclink_test

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// A client whose certificate is refused learns it after its own handshake; it must not look like a broken network.
func TestRefusedClientHearsThatItIsRefused(t *testing.T) {
	server, client := linktest.TLS(t)
	server.ClientAuth = tls.RequireAnyClientCert
	socket, listener := listen(t, server)
	d := &quiclink.Dialer{}
	link, err := d.Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
	if err == nil {
		<-link.Done()
		err = link.Cause()
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	}
	_ = listener.Close()
	var closed *tunnel.ClosedError
	if !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonRefused || !closed.Remote {
		t.Errorf("the refused client heard: %v", err)
	}
}

func TestUntrustedServerIsRefused(t *testing.T) {
	server, _ := linktest.TLS(t)
	_, stranger := linktest.TLS(t)
	socket, _ := listen(t, server)
	_, err := (&quiclink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: stranger})
	var closed *tunnel.ClosedError
	if !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonRefused || closed.Remote {
		t.Errorf("dialing a server with a foreign certificate: %v", err)
	}
}

// The connector's socket answers nobody but its edge.
func TestUnsolicitedDatagramsGetNoAnswer(t *testing.T) {
	pair := overUDP(t)
	target := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"),
		pair.Dialed.Info().Local.(*net.UDPAddr).AddrPort().Port()))
	stranger, err := net.DialUDP("udp4", nil, target)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for _, first := range []byte{0x00, 0x40, 0x7f, 0x80, 0xc0, 0xc3, 0xff} {
		for _, size := range []int{1, 21, 100, 1200, 1400} {
			for _, version := range [][]byte{{0, 0, 0, 1}, {0, 0, 0, 0}, {0x1a, 0x2a, 0x3a, 0x4a}} {
				datagram := make([]byte, size)
				_, _ = rand.Read(datagram)
				datagram[0] = first
				copy(datagram[1:], version)
				_, _ = stranger.Write(datagram)
			}
		}
	}
	_ = stranger.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := stranger.Read(make([]byte, 2000)); err == nil {
		t.Errorf("the socket answered a stranger with %d bytes", n)
	}
}

// Above the rate, a new source must prove its address first; those who can, still get in.
func TestDialThroughRetry(t *testing.T) {
	server, client := linktest.TLS(t)
	socket, _ := listenAs(t, server, quiclink.Config{RetryAbove: 1})
	for range 5 {
		link, err := (&quiclink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
		if err != nil {
			t.Fatal(err)
		}
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	}
}

func listen(t *testing.T, conf *tls.Config) (net.PacketConn, *quiclink.Listener) {
	t.Helper()
	return listenAs(t, conf, quiclink.Config{})
}

func listenAs(t *testing.T, server *tls.Config, conf quiclink.Config) (net.PacketConn, *quiclink.Listener) {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	listener, err := quiclink.NewListener(socket, server, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return socket, listener
}
