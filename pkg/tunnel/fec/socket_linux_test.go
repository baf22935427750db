package fec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// segmented is control data that has the kernel cut what is sent into packets of size bytes.
func segmented(size uint16, before ...byte) []byte {
	oob := append(before, make([]byte, unix.CmsgSpace(2))...)
	h := oob[len(before):]
	binary.NativeEndian.PutUint64(h, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(h[8:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(h[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(h[unix.CmsgSpace(0):], size)
	return oob
}

func TestSegments(t *testing.T) {
	from := (&ipv4.ControlMessage{Src: net.IPv4(192, 0, 2, 1)}).Marshal()
	for _, c := range []struct {
		what      string
		oob, rest []byte
		size      int
	}{
		{"nothing", nil, nil, 0},
		{"an address", from, from, 0},
		{"a length", segmented(1232), nil, 1232},
		{"an address and a length", segmented(500, from...), from, 500},
		{"a length between", append(segmented(500, from...), from...), append(bytes.Clone(from), from...), 500},
		{"half a header", []byte{1, 2, 3}, []byte{1, 2, 3}, 0},
	} {
		if size, rest := segments(bytes.Clone(c.oob)); size != c.size || !bytes.Equal(rest, c.rest) {
			t.Errorf("%s: length %d and %x, want %d and %x", c.what, size, rest, c.size, c.rest)
		}
	}
}

// holey loses one of the packets that it reads.
type holey struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	read  int
	lose  int
}

func (h *holey) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := h.batch.ReadBatch(ms[:1], flags)
		if err != nil {
			return n, err
		}
		if h.read++; h.read-1 != h.lose {
			return n, nil
		}
	}
}

// TestBatches: packets that a real socket sends in one call are protected one by one, and come whole as quic-go reads them.
func TestBatches(t *testing.T) {
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	from, to := open(), open()
	near, protecting := Wrap(from, nil)
	// The first call is one packet and its repair, by which the receiver begins to remember, so that it comes twice, of which QUIC makes one;
	// then the second of three is lost.
	far, taking := Wrap(&holey{UDPConn: to, batch: ipv4.NewPacketConn(to), lose: 3}, nil)
	sender, watcher := protecting.Peer(to.LocalAddr()), taking.Peer(from.LocalAddr())
	defer watcher.Close()
	defer sender.Close()
	sender.Protect(true)
	chance := rand.New(rand.NewPCG(2, 1))
	first := packet(chance, 100)
	send := func(b, oob []byte) {
		t.Helper()
		if _, _, err := near.(batchConn).WriteMsgUDP(b, oob, to.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Skipf("no segmentation offload here: %v", err)
		}
	}
	receive := func() []byte {
		t.Helper()
		_ = to.SetReadDeadline(time.Now().Add(time.Minute))
		ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 1500)}, OOB: make([]byte, 128)}}
		if _, err := far.(batchReader).ReadBatch(ms, 0); err != nil {
			t.Fatal(err)
		}
		return ms[0].Buffers[0][:ms[0].N]
	}
	send(first, nil)
	for range 2 {
		if got := receive(); !bytes.Equal(got, first) {
			t.Fatalf("%d bytes came, want %d", len(got), len(first))
		}
	}
	three := [][]byte{packet(chance, 1232), packet(chance, 1232), packet(chance, 700)}
	send(bytes.Join(three, nil), segmented(1232))
	for _, i := range []int{0, 2, 1} {
		if got := receive(); !bytes.Equal(got, three[i]) {
			t.Errorf("%d bytes came where packet %d was due", len(got), i)
		}
	}
}
