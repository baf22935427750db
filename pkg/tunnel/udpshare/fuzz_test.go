package udpshare

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

func FuzzConnectionID(f *testing.F) {
	e := Epoch{1, 2, 3}
	f.Add(short(e, "x"))
	f.Add(append([]byte{0xc0, 0, 0, 0, 1, IDLen}, e.ConnectionID()...))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, packet []byte) {
		got, ok := epochOf(packet)
		if ok && !bytes.Contains(packet, got[:]) {
			t.Errorf("%v is not in %x", got, packet)
		}
	})
}

func FuzzFrame(f *testing.F) {
	b, _ := appendFrame(nil, &net.UDPAddr{IP: net.IPv6loopback, Port: 443, Zone: "lo"}, []byte("control"), []byte("packet"))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		from, control, packet, err := parseFrame(b)
		if err != nil {
			return
		}
		again, ok := appendFrame(nil, from, control, packet)
		if !ok || !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// FuzzPass: of a batch of anything that arrives, each packet goes whole to the process that its connection ID names or stays, in
// order; none is lost, twice there, or changed, and every buffer stays in its place.
func FuzzPass(f *testing.F) {
	theirs := Epoch{1, 2, 3}
	f.Add(short(theirs, "a"), short(Epoch{9, 9, 9}, "b"), short(theirs, "c"))
	f.Add([]byte{}, []byte{0x80}, short(theirs, ""))
	f.Add(append([]byte{0xc0, 0, 0, 0, 1, IDLen}, theirs.ConnectionID()...), bytes.Repeat([]byte{0x40}, maxPacket), []byte{0x40, 1, 2})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		packets := [][]byte{a, b, c}
		far, inbox, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer inbox.Close()
		over, err := Conn(far)
		if err != nil {
			t.Fatal(err)
		}
		defer over.Close()
		s := &Socket{frame: make([]byte, 0, maxFrame)}
		ms := messages(len(packets))
		from := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 7}
		var first []*byte
		var passed, kept [][]byte
		for i, p := range packets {
			p = p[:min(len(p), maxPacket)]
			ms[i].N, ms[i].Addr = copy(ms[i].Buffers[0], p), from
			first = append(first, &ms[i].Buffers[0][0])
			if e, ok := epochOf(p); ok && e == theirs {
				passed = append(passed, p)
			} else {
				kept = append(kept, p)
			}
		}
		n := s.pass([]*Older{{theirs, over}}, ms)
		if n != len(kept) {
			t.Fatalf("%d packets stay, want %d", n, len(kept))
		}
		for i := range ms {
			if &ms[i].Buffers[0][0] != first[i] {
				t.Error("a buffer is in another place")
			}
			if i < n && !bytes.Equal(ms[i].Buffers[0][:ms[i].N], kept[i]) {
				t.Errorf("packet %d that stays: %x, want %x", i, ms[i].Buffers[0][:ms[i].N], kept[i])
			}
		}
		older := &Socket{frame: make([]byte, 0, maxFrame), inbox: inbox}
		for _, want := range passed {
			if got := inboxPacket(t, older); !bytes.Equal(got, want) {
				t.Errorf("passed on: %x, want %x", got, want)
			}
		}
	})
}

// FuzzInbox: what a successor sends that is no packet is passed over, and the next packet is read.
func FuzzInbox(f *testing.F) {
	good, _ := appendFrame(nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 7}, nil, []byte("the next one"))
	f.Add(good)
	f.Add([]byte{4, 1, 2, 3, 4, 0, 7, 0, 0})
	f.Add([]byte{16, 1})
	f.Add(bytes.Repeat([]byte{0xff}, 4*maxFrame))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 8*maxFrame {
			return // an empty one is the end
		}
		far, inbox, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer inbox.Close()
		over, err := Conn(far)
		if err != nil {
			t.Fatal(err)
		}
		defer over.Close()
		for _, frame := range [][]byte{b, good} {
			if _, err := over.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		s := &Socket{frame: make([]byte, 0, maxFrame), inbox: inbox}
		got := inboxPacket(t, s)
		if _, _, packet, err := parseFrame(b); err == nil && len(packet) > 0 && len(b) <= maxFrame {
			if !bytes.Equal(got, packet) {
				t.Errorf("%x, want %x", got, packet)
			}
			got = inboxPacket(t, s)
		}
		if string(got) != "the next one" {
			t.Errorf("then %q", got)
		}
	})
}

// inboxPacket reads one packet as the process that yielded does.
func inboxPacket(t *testing.T, s *Socket) []byte {
	t.Helper()
	_ = s.inbox.SetReadDeadline(time.Now().Add(time.Minute))
	ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, maxPacket)}, OOB: make([]byte, maxControl)}}
	n, err := s.readInbox(ms)
	if err != nil || n != 1 {
		t.Fatalf("%d packets, %v", n, err)
	}
	return ms[0].Buffers[0][:ms[0].N]
}
