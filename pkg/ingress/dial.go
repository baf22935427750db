package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
)

// conn counts what was written, so that a request of which no byte left can be told from one that may have arrived.
type conn struct {
	net.Conn
	written atomic.Int64
	buffers *hop.Buffers
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// ReadFrom is what net/http sends a body by: in larger pieces than io.Copy would make.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	return c.buffers.Copy(struct{ io.Writer }{c}, r)
}

// CloseWrite ends one direction of an upgraded connection, where the transport underneath can.
func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// dialer opens connections to one origin and to nothing else: what the request names is not asked.
type dialer struct {
	host, address string
	tls           *tls.Config // nil for http
	timeouts      Timeouts
	source        netip.Addr
	buffers       *hop.Buffers
	// unlocal says that the origin must not see 127.0.0.1 or ::1.
	unlocal bool
	// expires is the end of the certificate that the last handshake showed, Unix seconds; 0 before one.
	expires atomic.Int64
}

func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, buffers: d.buffers}, nil
}

func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	tcp, err := d.tcp(ctx)
	if err != nil {
		return nil, dialFailure(err)
	}
	if d.tls == nil {
		return tcp, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeouts.TLS)
	defer cancel()
	c := tls.Client(tcp, d.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, handshakeFailure(err)
	}
	d.expires.Store(c.ConnectionState().PeerCertificates[0].NotAfter.Unix())
	return c, nil
}

func (d *dialer) tcp(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeouts.Dial)
	defer cancel()
	if !d.unlocal && !d.source.IsValid() {
		return (&net.Dialer{}).DialContext(ctx, "tcp", d.address)
	}
	_, port, err := net.SplitHostPort(d.address)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", d.host)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, ip := range found {
		c, err := d.from(ctx, ip.Unmap(), port)
		if err == nil {
			return c, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

// from connects to ip from an address that the origin does not take for its own loop-back.
func (d *dialer) from(ctx context.Context, ip netip.Addr, port string) (net.Conn, error) {
	source := d.source
	if !source.IsValid() && (ip.IsLoopback() || ip.IsUnspecified()) {
		var err error
		if source, err = sourceFor(ip); err != nil {
			return nil, err
		}
	}
	nd := net.Dialer{}
	if source.IsValid() {
		if source.Is4() != ip.Is4() {
			return nil, fmt.Errorf("source %s cannot reach %s", source, ip)
		}
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := nd.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
	if err != nil {
		return nil, err
	}
	if d.unlocal && trustedLocal(c.LocalAddr()) {
		_ = c.Close()
		return nil, fmt.Errorf("the origin would see %s; set `source` to another address of this machine", c.LocalAddr())
	}
	return c, nil
}

// sourceFor chooses the local address for a connection to an origin on this machine's loop-back: an address of a network
// interface, so that nothing takes the connector for a process that the origin trusts; on a machine without one, 127.0.0.2,
// which Linux lets anybody use. IPv6 has a single loop-back address, so there it is an interface's or nothing.
//
// An origin that judges "inside the clinic" by address prefix sees the chosen one: `source: 127.0.0.2` keeps it out of such
// a prefix.
func sourceFor(ip netip.Addr) (netip.Addr, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface addresses: %w", err)
	}
	for _, a := range addresses {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		own, ok := netip.AddrFromSlice(prefix.IP)
		if own = own.Unmap(); ok && own.Is4() == ip.Is4() && !own.IsLoopback() && !own.IsLinkLocalUnicast() {
			return own, nil
		}
	}
	if ip.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 2}), nil
	}
	return netip.Addr{}, errors.New("this machine has no address from which an origin on ::1 could be asked without being taken for it")
}

func trustedLocal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return true
	}
	ip := tcp.AddrPort().Addr().Unmap()
	return ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || ip == netip.IPv6Loopback()
}
