package quiclink_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

func TestMain(m *testing.M) {
	if linktest.DialIdle(&quiclink.Dialer{}) {
		return
	}
	goleak.VerifyTestMain(m)
}

func TestLink(t *testing.T) { linktest.Run(t, inMemory) }

func TestLinkOverUDP(t *testing.T) { linktest.RunReal(t, overUDP) }

func inMemory(t testing.TB) *linktest.Pair {
	wire, dialer, listener := linktest.NewPackets()
	d := &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) { return dialer, nil }}
	return pair(t, d, listener, wire.ListenerAddr(), wire)
}

func overUDP(t testing.TB) *linktest.Pair {
	listener, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	wire := &sockets{listener: listener}
	d := &quiclink.Dialer{Config: impatient(), Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) {
		wire.dialer, err = net.ListenUDP("udp4", nil)
		return wire.dialer, err
	}}
	return pair(t, d, listener, listener.LocalAddr().(*net.UDPAddr).AddrPort(), wire)
}

// impatient finds a killed peer sooner, where time is real; the defaults are tested in fake time.
func impatient() quiclink.Config {
	return quiclink.Config{Idle: 3 * time.Second, KeepAlive: time.Second}
}

// sockets are real ones; they can only be killed.
type sockets struct{ dialer, listener net.PacketConn }

func (s *sockets) Blackhole(linktest.End) { panic("real sockets cannot be blackholed") }

func (s *sockets) Kill(end linktest.End) {
	if end == linktest.Dialer {
		_ = s.dialer.Close()
		return
	}
	_ = s.listener.Close()
}

func pair(t testing.TB, d *quiclink.Dialer, socket net.PacketConn, address netip.AddrPort, wire linktest.Wire) *linktest.Pair {
	t.Helper()
	server, client := linktest.TLS(t)
	listener, err := quiclink.NewListener(socket, server, d.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = socket.Close()
	})
	dialed, err := d.Dial(t.Context(), tunnel.Target{Address: address.String(), TLS: client})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = accepted.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
	return &linktest.Pair{Dialed: dialed, Accepted: accepted, Wire: wire}
}

func BenchmarkLink(b *testing.B) { linktest.Bench(b, overUDP) }
