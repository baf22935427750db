package connector_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// roaming is a UDP socket behind a NAT, or on a machine that roams: from one packet to the next it has another port, or another
// address, and what is on its way to the old one is lost.
type roaming struct {
	*net.UDPConn // the first; methods that a packet needs are below

	mu   sync.Mutex // guards both
	conn *net.UDPConn
	read time.Time // the deadline
}

func newRoaming() (*roaming, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	return &roaming{UDPConn: conn, conn: conn}, err
}

func (r *roaming) now() *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn
}

// moveTo gives the socket a free port of address.
func (r *roaming) moveTo(address netip.Addr) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
	if err != nil {
		return err
	}
	r.mu.Lock()
	old := r.conn
	r.conn = conn
	err = conn.SetReadDeadline(r.read)
	r.mu.Unlock()
	_ = old.Close()
	return err
}

func (r *roaming) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		conn := r.now()
		n, from, err := conn.ReadFrom(p)
		if err == nil || conn == r.now() {
			return n, from, err
		}
	}
}

func (r *roaming) WriteTo(p []byte, to net.Addr) (int, error) {
	for {
		conn := r.now()
		n, err := conn.WriteTo(p, to)
		if err == nil || conn == r.now() {
			return n, err
		}
	}
}

func (r *roaming) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = t
	return r.conn.SetReadDeadline(t)
}

func (r *roaming) SetDeadline(t time.Time) error { return r.SetReadDeadline(t) }
func (r *roaming) Close() error                  { return r.now().Close() }
func (r *roaming) LocalAddr() net.Addr           { return r.now().LocalAddr() }

// plain hides that there is a UDP socket inside, whose file descriptor quic-go would use past the methods above.
type plain struct{ net.PacketConn }

func (p plain) SetReadBuffer(int) error  { return nil }
func (p plain) SetWriteBuffer(int) error { return nil }

// The clinic's router forgets its port mapping, or the machine gets another address, under load: the link stays, no exchange fails.
func TestRebindingLosesNothing(t *testing.T) {
	e := newEdge(t)
	sockets := make(chan *roaming, 16) // one for each link: the lane may grow
	dialer := &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) {
		socket, err := newRoaming()
		sockets <- socket
		return plain{socket}, err
	}}
	newSteadyClinic(t, e, connector.TransportQUIC, func(cfg *connector.Config) { cfg.QUIC = dialer })
	e.members(t, 1)
	first := e.member(t)
	load := newLoad(t, e)
	load.more(t, 50)
	for _, address := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"} {
		for range len(sockets) {
			socket := <-sockets
			if err := socket.moveTo(netip.MustParseAddr(address)); err != nil {
				t.Fatal(err)
			}
			sockets <- socket
		}
		load.more(t, 100)
	}
	load.end(t)
	if err := first.Link.Cause(); err != nil {
		t.Errorf("the link ended: %v", err)
	}
	for _, m := range e.registry.Members("maple") {
		if got := m.Info.Transport; got != connector.TransportQUIC {
			t.Errorf("a link over %s", got)
		}
	}
	if got, err := fetch(t, first, head(first, e.mint(t, claims(first)), "/oscar/chart")); err != nil {
		t.Errorf("on the first link: %q %v", got, err)
	}
}
