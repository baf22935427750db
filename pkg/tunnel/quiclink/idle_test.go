package quiclink_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// What an idle link may hold at the edge. The heap is twice what it does, so that only a new buffer fails (see DESIGN.md of tunnel).
const (
	heapCeiling      = 72 << 10
	goroutineCeiling = 4.5
)

func TestAnIdleLinkHoldsLittle(t *testing.T) {
	held := linktest.Idle(t, listenIdle, 50)
	t.Logf("%.0f bytes of heap, %.0f of stacks, %.1f goroutines", held.Heap, held.Stack, held.Goroutines)
	if held.Heap > heapCeiling || held.Goroutines > goroutineCeiling {
		t.Errorf("an idle link holds %.0f bytes and %.1f goroutines, want at most %d and %.0f", held.Heap, held.Goroutines, heapCeiling, goroutineCeiling)
	}
}

func BenchmarkIdle(b *testing.B) { linktest.BenchIdle(b, listenIdle) }

func listenIdle(t testing.TB, conf *tls.Config) (string, func(context.Context) (tunnel.Link, error)) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := quiclink.NewListener(socket, conf, quiclink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = socket.Close()
	})
	return socket.LocalAddr().String(), l.Accept
}
