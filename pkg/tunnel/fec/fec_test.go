package fec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// wire carries packets from one socket to another and loses those that lose names, by the order in which they are sent.
type wire struct {
	net.PacketConn // nil
	packets        chan []byte
	from           net.Addr
	sent           int
	lose           func(n int) bool
}

func (w *wire) WriteTo(p []byte, _ net.Addr) (int, error) {
	if w.sent++; w.lose == nil || !w.lose(w.sent-1) {
		w.packets <- bytes.Clone(p)
	}
	return len(p), nil
}

func (w *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	packet, ok := <-w.packets
	if !ok {
		return 0, nil, os.ErrClosed
	}
	return copy(p, packet), w.from, nil
}

var here, there = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2}

// way is a socket that protects what it sends, the wire, and what takes repair packets behind it.
type way struct {
	*wire
	near, far       net.PacketConn
	sender, watcher *Peer
}

func newWay(lose func(n int) bool) *way {
	w := &way{wire: &wire{packets: make(chan []byte, 1000), from: here, lose: lose}}
	var near, far *Socket
	w.near, near = wrapPlain(w.wire, nil)
	w.far, far = wrapPlain(w.wire, nil)
	w.sender, w.watcher = near.Peer(there), far.Peer(here)
	return w
}

// packet is one of QUIC's, as far as anybody here can tell.
func packet(chance *rand.Rand, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(chance.Uint32())
	}
	p[0] = 0x40 | p[0]&0x3f
	return p
}

// carry sends packets and returns those that QUIC would take when all has come.
func (w *way) carry(t *testing.T, packets ...[]byte) [][]byte {
	for _, p := range packets {
		if _, err := w.near.WriteTo(p, there); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Second) // fake
	synctest.Wait()
	var came [][]byte
	for len(w.packets) > 0 {
		b := make([]byte, 1500)
		n, _, err := w.far.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if !isRepair(b) {
			came = append(came, b[:n])
		}
	}
	return came
}

// begin has the receiver remember packets, for which it must have seen a repair packet.
func (w *way) begin(t *testing.T, chance *rand.Rand) {
	w.sender.Protect(true)
	w.carry(t, packet(chance, 100))
	w.sent = 0
}

func same(a, b [][]byte) bool {
	slices.SortFunc(a, bytes.Compare)
	b = slices.Clone(b)
	slices.SortFunc(b, bytes.Compare)
	return slices.EqualFunc(a, b, bytes.Equal)
}

// TestOneLostPacketIsMadeGood: whichever it is, of how many and however long ones.
func TestOneLostPacketIsMadeGood(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 1))
	for count := 1; count <= blockSize; count++ {
		for lost := range count {
			synctest.Test(t, func(t *testing.T) {
				w := newWay(nil)
				w.begin(t, chance)
				w.lose = func(n int) bool { return n == lost }
				var packets [][]byte
				for range count {
					packets = append(packets, packet(chance, leastSource+chance.IntN(mostSource-leastSource+1)))
				}
				if came := w.carry(t, packets...); !same(came, packets) {
					t.Errorf("packet %d of %d was lost: %d came", lost, count, len(came))
				}
				w.watcher.Close()
				w.sender.Close()
			})
		}
	}
}

// TestMoreIsNotMadeUp: of two lost packets none comes, and nothing else in their place.
func TestMoreIsNotMadeUp(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	synctest.Test(t, func(t *testing.T) {
		w := newWay(nil)
		w.begin(t, chance)
		w.lose = func(n int) bool { return n == 1 || n == 2 }
		packets := [][]byte{packet(chance, 1232), packet(chance, 1232), packet(chance, 900), packet(chance, 70)}
		came := w.carry(t, packets...)
		if want := [][]byte{packets[0], packets[3]}; !same(came, want) {
			t.Errorf("%d packets came, want the two that were not lost", len(came))
		}
		w.sender.Close()
		w.watcher.Close()
	})
}

// TestNothingIsAddedUnasked: not before Protect, not after it was taken back, nor to somebody else, nor for what is no packet of data.
func TestNothingIsAddedUnasked(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 3))
	data := packet(chance, 500)
	long, short := packet(chance, 1200), packet(chance, leastSource-1)
	long[0] |= 0x80
	for _, c := range []struct {
		what   string
		setUp  func(w *way)
		packet []byte
	}{
		{"not protected", func(*way) {}, data},
		{"not protected any more", func(w *way) { w.sender.Protect(true); w.sender.Protect(false) }, data},
		{"closed", func(w *way) { w.sender.Protect(true); w.sender.Close() }, data},
		{"another peer", func(w *way) { w.sender.Protect(true); w.sender.Move(here) }, data},
		{"a packet of a handshake", func(w *way) { w.sender.Protect(true) }, long},
		{"an acknowledgement", func(w *way) { w.sender.Protect(true) }, short},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWay(nil)
			c.setUp(w)
			if w.carry(t, c.packet); w.sent != 1 {
				t.Errorf("%s: %d packets were sent for one", c.what, w.sent)
			}
			w.sender.Close()
		})
	}
}

// TestAPeerThatMovesStaysProtected, at both ends.
func TestAPeerThatMovesStaysProtected(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 4))
	synctest.Test(t, func(t *testing.T) {
		w := newWay(nil)
		w.begin(t, chance)
		moved := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 9}
		w.from = moved
		w.watcher.Move(&net.UDPAddr{IP: moved.IP.To4(), Port: moved.Port}) // the same one, as another socket writes it
		w.lose = func(n int) bool { return n == 0 }
		packets := [][]byte{packet(chance, 800), packet(chance, 1232)}
		if came := w.carry(t, packets...); !same(came, packets) {
			t.Errorf("%d of 2 packets came from the new address", len(came))
		}
		w.sender.Close()
		w.watcher.Close()
	})
}

// TestPacketsAreForgotten: of a peer that sends no repair packets any more nothing is remembered, nor of one that is gone.
func TestPacketsAreForgotten(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 5))
	synctest.Test(t, func(t *testing.T) {
		w := newWay(nil)
		w.begin(t, chance)
		far := w.watcher.socket
		if n := far.receiving.Load(); n != 1 {
			t.Fatalf("%d peers protect what they send, want 1", n)
		}
		w.sender.Protect(false)
		for range forgetAfter/500 + 1 {
			w.carry(t, slices.Repeat([][]byte{packet(chance, 200)}, 500)...)
		}
		if n := far.receiving.Load(); n != 0 || w.watcher.in.packets != nil {
			t.Errorf("%d peers are remembered long after the last repair packet", n)
		}
		w.begin(t, chance)
		w.watcher.Close()
		w.carry(t, packet(chance, 200))
		if n := far.receiving.Load(); n != 0 || len(far.peers) != 0 {
			t.Errorf("%d peers are remembered that are closed", n)
		}
		w.sender.Close()
	})
}

// FuzzRepair: whatever comes in place of a repair packet, what QUIC is given is what came, or one of its own packets no longer than that.
func FuzzRepair(f *testing.F) {
	chance := rand.New(rand.NewPCG(1, 6))
	known := [][]byte{packet(chance, 1232), packet(chance, 64), packet(chance, 300)}
	var made []byte
	b := &block{send: func(p, _ []byte, _ net.Addr) { made = bytes.Clone(p) }}
	b.turn(true)
	for _, p := range append(known, packet(chance, 1000)) {
		b.add(p, nil, there)
	}
	b.expire()
	b.turn(false)
	f.Add(made)
	f.Add(made[:len(made)-1])
	f.Add([]byte{kind})
	f.Add(append([]byte{kind, 0, 0, 0, 0, 0, 0, 0, 0, maxNames + 1}, made...))
	f.Fuzz(func(t *testing.T, p []byte) {
		w := &window{}
		w.begin()
		for _, p := range known {
			w.keep(p)
		}
		was := bytes.Clone(p)
		n := w.repair(p)
		switch {
		case n > len(p):
			t.Fatalf("%d bytes of %d", n, len(p))
		case n == len(p) && (len(p) == 0 || p[0] == was[0]):
		case !isSource(p[:n]):
			t.Errorf("%x became %x", was, p[:n])
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	for _, size := range []int{200, 1232} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := packet(rand.New(rand.NewPCG(1, 7)), size)
			to := &block{send: func(_, _ []byte, _ net.Addr) {}}
			to.turn(true)
			for b.Loop() {
				to.add(p, nil, there)
			}
			to.turn(false)
		})
	}
}
