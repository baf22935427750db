package quiclink_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// badSocket is a socket on a bad line (attack case H7): of what it sends a fifth is lost, a twentieth comes twice, and each
// packet takes 100 to 200 ms, so that they overtake each other.
type badSocket struct {
	net.PacketConn
	mu  sync.Mutex
	rnd *rand.Rand
}

func (b *badSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	copies := 1
	switch chance := b.rnd.IntN(100); {
	case chance < 20:
		copies = 0
	case chance < 25:
		copies = 2
	}
	for range copies {
		sent := append([]byte(nil), p...)
		time.AfterFunc(time.Duration(100+b.rnd.IntN(100))*time.Millisecond, func() { _, _ = b.PacketConn.WriteTo(sent, to) })
	}
	return len(p), nil
}

// SetReadBuffer and SetWriteBuffer exist because quic-go complains about sockets without.
func (b *badSocket) SetReadBuffer(int) error  { return nil }
func (b *badSocket) SetWriteBuffer(int) error { return nil }

func badLine(t testing.TB, seed uint64) *linktest.Pair {
	wire, dialer, listener := linktest.NewPackets()
	bad := func(socket net.PacketConn, n uint64) net.PacketConn {
		return &badSocket{PacketConn: socket, rnd: rand.New(rand.NewPCG(seed, n))}
	}
	d := &quiclink.Dialer{
		Config: quiclink.Config{Handshake: time.Minute}, // what a connector makes up for by dialling again
		Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) { return bad(dialer, 1), nil },
	}
	return pair(t, d, bad(listener, 2), wire.ListenerAddr(), wire)
}

// TestBadLine: with loss, jitter, reordering and duplicates every stream carries its own bytes, all of them, in order and
// once; and when nothing comes through any more both sides know within ten seconds, and no stream passes for whole.
func TestBadLine(t *testing.T) {
	linktest.Bubble(t, func(t *testing.T) {
		// The order of what is sent is not ours, so that each run has other losses; and one link in some thousands loses all
		// signs of life of 8.5 s (QUIC asks at intervals that double). Then a connector dials again. Two in a row are no chance.
		if !onBadLine(t, 7) && !onBadLine(t, 8) {
			t.Error("two links in a row did not live")
		}
	})
}

// onBadLine reports whether the link lived until the line went dead.
func onBadLine(t *testing.T, seed uint64) (lived bool) {
	p := linktest.Make(func(t testing.TB) *linktest.Pair { return badLine(t, seed) }).Admitted(t)
	accepted := make(chan uint64, 200)
	var all, echoing sync.WaitGroup
	echoing.Go(func() { echoStreams(p.Dialed, accepted) })
	for number := range uint64(40) {
		all.Go(func() {
			size := 1 + int(number)*2500
			if n, err := numberedEcho(t, p.Accepted, number, size, func() {}); err == nil && n != size {
				t.Errorf("stream %d: %d bytes of %d pass for whole", number, n, size)
			} else if err != nil && !timedOut(p) {
				t.Errorf("stream %d: %d bytes, %v", number, n, err)
			}
		})
	}
	all.Wait()

	var begun sync.WaitGroup
	const size = 1 << 20
	for number := range uint64(20) {
		begun.Add(1)
		all.Go(func() {
			if n, err := numberedEcho(t, p.Accepted, 1000+number, size, sync.OnceFunc(begun.Done)); err == nil && n != size {
				t.Errorf("stream %d: %d bytes pass for whole", number, n)
			}
		})
	}
	begun.Wait()
	lived = !timedOut(p)
	start := time.Now()
	p.Wire.Kill(linktest.Dialer)
	for _, end := range []tunnel.Link{p.Accepted, p.Dialed} {
		<-end.Done()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("a side knew after %v", took)
		}
	}
	all.Wait()
	echoing.Wait()
	if came := len(accepted); came > 60 || lived && came < 60 {
		t.Errorf("%d streams came for 60 that were opened", came)
	}
	return lived
}

// timedOut reports whether a side has ended its link because it heard nothing.
func timedOut(p *linktest.Pair) bool {
	for _, end := range []tunnel.Link{p.Accepted, p.Dialed} {
		var closed *tunnel.ClosedError
		if errors.As(end.Cause(), &closed) && closed.Reason.Code == tunnel.ReasonTimeout {
			return true
		}
	}
	return false
}

// TestAQuietLinkLives: a link on which nothing is said any more stays, whenever in its rest the last packet came.
func TestAQuietLinkLives(t *testing.T) {
	for into := time.Duration(0); into < 3*time.Second; into += 100 * time.Millisecond {
		linktest.Bubble(t, func(t *testing.T) {
			p := linktest.Make(inMemory).Admitted(t)
			acknowledged(t, p, into)
			select {
			case <-p.Dialed.Done():
			case <-p.Accepted.Done():
			case <-time.After(time.Minute):
				return
			}
			t.Errorf("%v after something was read: %v, %v", into, p.Dialed.Cause(), p.Accepted.Cause())
		})
	}
}

// TestTheLastWordIsAnAcknowledgement: whenever in a link's rest that comes, both sides know within ten seconds of it.
func TestTheLastWordIsAnAcknowledgement(t *testing.T) {
	for into := time.Duration(0); into < 3*time.Second; into += 100 * time.Millisecond {
		linktest.Bubble(t, func(t *testing.T) {
			p := linktest.Make(inMemory).Admitted(t)
			acknowledged(t, p, into)
			<-time.After(100 * time.Millisecond)
			p.Wire.Kill(linktest.Dialer)
			start := time.Now()
			for _, end := range []tunnel.Link{p.Accepted, p.Dialed} {
				<-end.Done()
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("%v after something was read a line went dead, and a side knew after %v", into, took)
				}
			}
		})
	}
}

// acknowledged returns when a byte is on its way which the dialed side sent a time into the link's rest: it is acknowledged, no more.
func acknowledged(t *testing.T, p *linktest.Pair, into time.Duration) {
	said, err := p.Dialed.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say := func(s tunnel.Stream) {
		if _, err := s.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Second)
	say(said)
	heard, err := p.Accepted.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say(heard)
	if _, err := io.ReadFull(said, make([]byte, 1)); err != nil { // what was read lets the link rest
		t.Fatal(err)
	}
	<-time.After(into)
	say(said)
}

// echoStreams sends back what comes on each stream, and tells its number, which is in its first eight bytes.
func echoStreams(link tunnel.Link, accepted chan<- uint64) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s, err := link.Accept(context.Background())
		if err != nil {
			return
		}
		all.Go(func() {
			var number [8]byte
			if _, err := io.ReadFull(s, number[:]); err != nil {
				return
			}
			accepted <- binary.BigEndian.Uint64(number[:])
			if _, err := io.Copy(s, s); err == nil {
				_ = s.CloseWrite()
			}
		})
	}
}

// numberedEcho sends size bytes that tell whose and where they are, and reads them back; begun is called, perhaps more than once, when
// the first have come or none will.
func numberedEcho(t *testing.T, link tunnel.Link, number uint64, size int, begun func()) (int, error) {
	defer begun()
	s, err := link.Open(context.Background())
	if err != nil {
		return 0, err
	}
	defer s.Reset(tunnel.ResetCancelled)
	go func() {
		_, _ = s.Write(binary.BigEndian.AppendUint64(nil, number))
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = mark(number, i)
		}
		if _, err := s.Write(sent); err == nil {
			_ = s.CloseWrite()
		}
	}()
	buf, got := make([]byte, 4096), 0
	for {
		n, err := s.Read(buf)
		for i := range n {
			if buf[i] != mark(number, got+i) {
				t.Errorf("stream %d: a foreign byte at %d", number, got+i)
				return got, io.ErrUnexpectedEOF
			}
		}
		got += n
		if n > 0 {
			begun()
		}
		if err == io.EOF { //nolint:errorlint // an orderly end is io.EOF itself
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// mark is byte i of stream number.
func mark(number uint64, i int) byte { return byte(number*31 + uint64(i)*7 + uint64(i)>>8) }
