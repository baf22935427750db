package quiclink_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// losingSocket is a socket at a line that loses one packet of a hundred.
type losingSocket struct {
	net.PacketConn
	delay   time.Duration
	repairs atomic.Int64 // repair packets that were sent
	lost    atomic.Bool  // whether it loses any

	mu  sync.Mutex // guards all below
	rnd *rand.Rand
	way []sending // in their order: overtaking looks like loss
}

type sending struct {
	packet []byte
	to     net.Addr
}

func (l *losingSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p[0] == 0x05 {
		l.repairs.Add(1)
	}
	if l.rnd.IntN(100) > 0 || !l.lost.Load() {
		l.way = append(l.way, sending{append([]byte(nil), p...), to})
		time.AfterFunc(l.delay, l.arrive)
	}
	return len(p), nil
}

// arrive has the packet come that was sent first.
func (l *losingSocket) arrive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.way[0]
	l.way = l.way[1:]
	_, _ = l.PacketConn.WriteTo(first.packet, first.to)
}

// losing is a link over such a line.
type losing struct {
	*linktest.Pair
	sockets [2]*losingSocket
}

func newLosing(t testing.TB, delay time.Duration) *losing {
	wire, dialer, listener := linktest.NewPackets()
	l := &losing{}
	for i, end := range []net.PacketConn{dialer, listener} {
		l.sockets[i] = &losingSocket{PacketConn: end, delay: delay, rnd: rand.New(rand.NewPCG(9, uint64(i)))}
	}
	d := &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) { return l.sockets[0], nil }}
	l.Pair = pair(t, d, l.sockets[1], wire.ListenerAddr(), wire)
	l.Dialed.Admit()
	l.Accepted.Admit()
	l.lose(true)
	return l
}

func (l *losing) lose(on bool) {
	for _, s := range l.sockets {
		s.lost.Store(on)
	}
}

// answers has the dialled side send so many of size bytes, one after the other, and returns how long that took.
func (l *losing) answers(t *testing.T, count, size int) time.Duration {
	sent := make(chan error, 1)
	began := time.Now()
	for range count {
		go func() {
			s, err := l.Dialed.Open(context.Background())
			if err == nil {
				_, err = s.Write(make([]byte, size))
			}
			if err == nil {
				err = s.CloseWrite()
			}
			if err == nil {
				_, err = io.Copy(io.Discard, s)
			}
			sent <- err
		}()
		s, err := l.Accepted.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, s)
		if err != nil || n != int64(size) {
			t.Fatalf("%d bytes came of %d: %v", n, size, err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(began)
}

// TestRepair: answers take much less time on a line that loses packets if those are repaired.
func TestRepair(t *testing.T) {
	took := map[bool]time.Duration{}
	for _, repaired := range []bool{false, true} {
		linktest.Bubble(t, func(t *testing.T) {
			l := newLosing(t, 20*time.Millisecond)
			if repaired {
				tunnel.Repair(l.Dialed)
				tunnel.Repair(l.Accepted)
			}
			l.answers(t, 100, 60_000) // losses are seen, and the window is what they leave
			took[repaired] = l.answers(t, 200, 60_000)
		})
	}
	t.Logf("200 answers took %v, repaired %v", took[false], took[true])
	if took[true]*10 > took[false]*8 {
		t.Errorf("200 answers took %v, repaired %v", took[false], took[true])
	}
}

// TestRepairOneSided: a peer that takes no repair packets gets whole answers all the same.
func TestRepairOneSided(t *testing.T) {
	linktest.Bubble(t, func(t *testing.T) {
		l := newLosing(t, 20*time.Millisecond)
		tunnel.Repair(l.Dialed)
		l.answers(t, 100, 60_000)
	})
}

// TestRepairOnlyWhereItPays: at the beginning, and while packets are lost, on a line that is long.
func TestRepairOnlyWhereItPays(t *testing.T) {
	linktest.Bubble(t, func(t *testing.T) {
		l := newLosing(t, 20*time.Millisecond)
		l.lose(false)
		sent := func() int64 { return l.sockets[0].repairs.Swap(0) }
		tunnel.Repair(l.Dialed)
		if l.answers(t, 10, 60_000); sent() == 0 {
			t.Error("a new link is not protected")
		}
		<-time.After(20 * time.Second)
		sent()
		if l.answers(t, 10, 60_000); sent() > 0 {
			t.Error("a line that has lost nothing is protected")
		}
		l.lose(true)
		l.answers(t, 100, 60_000)
		sent()
		if l.answers(t, 10, 60_000); sent() == 0 {
			t.Error("a line that loses packets is not protected")
		}
	})
	linktest.Bubble(t, func(t *testing.T) {
		l := newLosing(t, time.Millisecond)
		tunnel.Repair(l.Dialed)
		if l.answers(t, 100, 60_000); l.sockets[0].repairs.Load() > 0 {
			t.Error("a short line is protected")
		}
	})
}
