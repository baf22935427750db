package quiclink

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
)

// Dialer opens links over QUIC. Each dial has a UDP socket of its own, which is closed with the link; it accepts no
// connection and answers no unsolicited datagram.
type Dialer struct {
	Config Config
	// Socket opens the socket for a dial to remote; nil: any free UDP port. The link closes it.
	Socket func(ctx context.Context, remote netip.AddrPort) (net.PacketConn, error)
}

var _ tunnel.Dialer = (*Dialer)(nil)

// Transport is "quic".
func (d *Dialer) Transport() string { return transportName }

// Dial implements tunnel.Dialer.
func (d *Dialer) Dial(ctx context.Context, target tunnel.Target) (tunnel.Link, error) {
	return tunnel.FirstAddress(ctx, target, func(ctx context.Context, remote netip.AddrPort) (tunnel.Link, error) {
		return d.dialAddress(ctx, target, remote)
	})
}

func (d *Dialer) dialAddress(ctx context.Context, target tunnel.Target, remote netip.AddrPort) (tunnel.Link, error) {
	conf := d.Config.withDefaults(dialerStreams)
	conf.HTTP3 = nil
	socket, err := d.open(ctx, remote)
	if err != nil {
		return nil, fmt.Errorf("udp socket: %w", err)
	}
	through, repairs := fec.Wrap(socket, conf.Repairs)
	transport := &quic.Transport{Conn: through}
	release := func() {
		_ = transport.Close()
		_ = socket.Close()
	}
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(remote), target.ClientTLS(conf.ALPN), conf.quic())
	if err != nil {
		release()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial %s: %w", remote, context.Cause(ctx))
		}
		return nil, fmt.Errorf("dial %s: %w", remote, closedError(err))
	}
	return newLink(conn, conf, repairs, func() {}, release), nil
}

func (d *Dialer) open(ctx context.Context, remote netip.AddrPort) (net.PacketConn, error) {
	if d.Socket != nil {
		return d.Socket(ctx, remote)
	}
	network := "udp6"
	if remote.Addr().Is4() {
		network = "udp4"
	}
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, ":0")
}
