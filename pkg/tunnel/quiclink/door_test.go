package quiclink_test

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// A dialer that finds no place is told so at once, and when to come back; a place is held until the link is admitted, or the
// connection has failed.
func TestNoPlaceIsSaidBeforeTheHandshake(t *testing.T) {
	server, client := linktest.TLS(t)
	door := &tunnel.Door{Places: 1}
	socket, listener := listenAs(t, server, quiclink.Config{
		Enter: func(remote net.Addr) (func(), bool) { return door.Enter(remote.String()) },
	})
	target := tunnel.Target{Address: socket.LocalAddr().String(), TLS: client}
	dial := func() (tunnel.Link, error) { return (&quiclink.Dialer{}).Dial(t.Context(), target) }
	free := func(when string) {
		for within := time.Now().Add(30 * time.Second); ; {
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
	if _, err := dial(); tunnel.ComeBack(err) == 0 || time.Since(began) > 4*time.Second {
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

// deaf is a socket over which nothing comes back, as to somebody who forges where packets come from.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if _, _, err := d.PacketConn.ReadFrom(p); err != nil {
			return 0, nil, err
		}
	}
}

// Whoever forges many addresses takes some places at the most: beyond those an address is to be proved before it costs one.
func TestForgedAddressesDoNotShutTheDoor(t *testing.T) {
	server, client := linktest.TLS(t)
	door, came := &tunnel.Door{}, atomic.Int64{}
	socket, _ := listenAs(t, server, quiclink.Config{
		RetryAbove: 1000, // slower than that, nothing else makes them prove anything
		Handshake:  time.Minute,
		Enter: func(remote net.Addr) (func(), bool) {
			came.Add(1)
			return door.Enter(remote.String())
		},
	})
	forged := client.Clone()
	forged.NextProtos = []string{tunnel.ALPN}
	ctx, stop := context.WithCancel(t.Context())
	var forging sync.WaitGroup
	t.Cleanup(func() {
		stop()
		forging.Wait()
	})
	for range 100 {
		own, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		forging.Go(func() {
			defer func() { _ = own.Close() }()
			tr := &quic.Transport{Conn: deaf{own}}
			_, _ = tr.Dial(ctx, socket.LocalAddr(), forged, nil)
			_ = tr.Close()
		})
	}
	for within := time.Now().Add(20 * time.Second); came.Load() < 16 && time.Now().Before(within); {
		runtime.Gosched()
	}
	for range 8 {
		link, err := (&quiclink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
		if err != nil {
			t.Fatalf("whoever proves an address finds no place: %v", err)
		}
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	}
	if n := came.Load(); n > 16+8 {
		t.Errorf("%d connections came to the door, most of them without an address", n)
	}
}
