package udpshare

import (
	"net"
	"testing"

	"golang.org/x/net/ipv4"
)

func open(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// short is a short-header packet to a process.
func short(e Epoch, text string) []byte {
	return append(append([]byte{0x40}, e.ConnectionID()...), text...)
}

func messages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1500)}, make([]byte, 128)
	}
	return ms
}

func readOne(t *testing.T, s *Socket) (text string, from net.Addr) {
	t.Helper()
	ms := messages(1)
	n, err := s.ReadBatch(ms, 0)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	return string(ms[0].Buffers[0][1+IDLen : ms[0].N]), ms[0].Addr
}

func TestEachProcessGetsItsOwnPackets(t *testing.T) {
	conn, client := open(t), open(t)
	old, newer := New(conn, NewEpoch()), New(conn, NewEpoch())
	old.Begin()
	send := func(p []byte) {
		t.Helper()
		if _, err := client.WriteTo(p, conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	send(short(old.Epoch(), "before"))
	if got, _ := readOne(t, old); got != "before" {
		t.Errorf("%q", got)
	}
	far, near, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	over, err := Conn(far)
	if err != nil {
		t.Fatal(err)
	}
	newer.Relay(old.Epoch(), over)
	// In a test both share one net.UDPConn, whose deadline is one process's own otherwise.
	old.inbox = near
	old.yielded.Store(true)
	newer.Begin()
	send(short(old.Epoch(), "for the old one"))
	send(short(newer.Epoch(), "for the new one"))
	send(short(NewEpoch(), "for nobody that is known"))
	for _, want := range []string{"for the new one", "for nobody that is known"} {
		if got, _ := readOne(t, newer); got != want {
			t.Errorf("the new process read %q", got)
		}
	}
	got, from := readOne(t, old)
	if got != "for the old one" || from.String() != client.LocalAddr().String() {
		t.Errorf("the old process read %q from %v", got, from)
	}
	// The old process ends: what still comes for it is answered by the new one (with a stateless reset).
	_ = near.Close()
	send(short(old.Epoch(), "too late"))
	if got, _ := readOne(t, newer); got != "too late" {
		t.Errorf("%q", got)
	}
	if newer.Older() != nil {
		t.Error("the process that is gone is still known")
	}
}

func TestPacketsKeepTheirPlaceWhenSomeAreForOthers(t *testing.T) {
	a, b := NewEpoch(), NewEpoch()
	s := New(open(t), b)
	far, near, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	over, err := Conn(far)
	if err != nil {
		t.Fatal(err)
	}
	s.Relay(a, over)
	ms := messages(5)
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 9}
	for i, e := range []Epoch{a, b, a, b, b} {
		ms[i].N, ms[i].Addr = copy(ms[i].Buffers[0], short(e, string(rune('0'+i)))), from
	}
	buffers := ms[0].Buffers[0]
	if n := s.pass(*s.relays.Load(), ms); n != 3 {
		t.Fatal(n)
	}
	var kept []byte
	for _, m := range ms[:3] {
		kept = append(kept, m.Buffers[0][m.N-1])
	}
	if string(kept) != "134" || &buffers[0] != &ms[0].Buffers[0][0] {
		t.Errorf("%s", kept)
	}
}

func TestHeldUntilBegin(t *testing.T) {
	s := New(open(t), NewEpoch())
	read := make(chan error, 1)
	go func() { _, err := s.ReadBatch(messages(1), 0); read <- err }()
	_ = s.Close()
	if err := <-read; err == nil {
		t.Error("read from a closed socket")
	}
}

// What sharing costs a process that took over from nobody: compare with the bare socket.
func BenchmarkReadBatch(b *testing.B) {
	for name, shared := range map[string]bool{"bare": false, "shared": true} {
		b.Run(name, func(b *testing.B) {
			conn, _ := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			defer conn.Close()
			s := New(conn, NewEpoch())
			s.Begin()
			read := s.batch.ReadBatch
			if shared {
				read = s.ReadBatch
			}
			ms, packet := messages(8), short(s.epoch, "x")
			b.ReportAllocs()
			for b.Loop() {
				_, _ = conn.WriteTo(packet, conn.LocalAddr())
				if _, err := read(ms, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
