package quiclink_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// endingSocket is a socket whose reads end with io.EOF once it is told to.
type endingSocket struct {
	net.PacketConn
	ended atomic.Bool
}

func (s *endingSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(p)
	if s.ended.Load() {
		return 0, nil, io.EOF
	}
	return n, from, err
}

// A body that is cut off must never look whole: whatever the socket says when it ends, only the peer's FIN is the end of a
// stream's bytes.
func TestASocketThatEndsIsNoEndOfAStream(t *testing.T) {
	wire, dialer, listener := linktest.NewPackets()
	socket := &endingSocket{PacketConn: dialer}
	d := &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) { return socket, nil }}
	p := pair(t, d, listener, wire.ListenerAddr(), wire)
	p.Accepted.Admit()
	stream, err := p.Dialed.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte("half of")); err != nil {
		t.Fatal(err)
	}
	peer, err := p.Accepted.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write([]byte("half of")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, len("half of"))); err != nil {
		t.Fatal(err)
	}
	socket.ended.Store(true)
	if err := socket.SetReadDeadline(time.Now()); err != nil { // wakes the reader
		t.Fatal(err)
	}
	n, err := stream.Read(make([]byte, 1))
	var closed *tunnel.ClosedError
	if n != 0 || err == io.EOF || !errors.As(err, &closed) { //nolint:errorlint // that it is not io.EOF itself is the point
		t.Errorf("Read: %d, %v; want the cause of the link's end", n, err)
	}
}
