package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// ProxyProtocol says whose word is taken for where a connection over TCP comes from. What arrives over UDP has no such header: there a
// load balancer must leave the sender's address as it is, or quic must be off.
type ProxyProtocol struct {
	// Trusted are the load balancers, as CIDR ranges or addresses: each connection from them begins with a header of the PROXY
	// protocol, version 1 or 2, in front of TLS, and is what it says. From anybody else such a header is no TLS and ends the
	// connection.
	Trusted []string `conf:"trusted" help:"load balancers that send PROXY protocol headers, as CIDR ranges"`
	// Optional takes connections without a header from them too, under their own address.
	Optional bool `conf:"optional" help:"take connections without a PROXY protocol header from them, too"`
}

// Validate finds every fault at once.
func (p ProxyProtocol) Validate() error {
	_, err := p.ranges()
	return err
}

func (p ProxyProtocol) ranges() (out []netip.Prefix, err error) {
	var faults []error
	for i, text := range p.Trusted {
		one, err := netip.ParsePrefix(text)
		if addr, bad := netip.ParseAddr(text); bad == nil {
			one, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("proxy_protocol.trusted[%d]: %q: write an address or a range, 10.0.0.0/8", i, text))
		case one.Bits() == 0:
			faults = append(faults, fmt.Errorf("proxy_protocol.trusted[%d]: %s is everybody, and anybody could say to be anybody", i, text))
		}
		out = append(out, one.Masked())
	}
	return out, errors.Join(faults...)
}

const (
	// headerLimit is how long a header may take; it is in the first packet.
	headerLimit = 5 * time.Second
	// headersAtOnce is how many may be on their way.
	headersAtOnce = 1024
	// headerBuffer holds the longest header that the library takes (version 2 with its extensions) and some of TLS.
	headerBuffer = 4 << 10
)

// proxied is a listener whose connections have the address that a trusted load balancer says. Headers are read beside each
// other, so that a slow one holds up nobody.
type proxied struct {
	net.Listener
	trusted  []netip.Prefix
	optional bool
	result   *prometheus.CounterVec
	logger   *zap.Logger

	begin sync.Once
	ready chan net.Conn
	slots chan struct{}
	shut  context.Context // ends with the listener
	close context.CancelFunc
	ended chan struct{} // closed when Accept of the listener beneath has failed, with err
	err   error
}

// behindBalancers is l, or l with headers read where balancers are configured.
func (e *Edge) behindBalancers(l net.Listener) (net.Listener, error) {
	trusted, err := e.config.ProxyProtocol.ranges()
	if err != nil || len(trusted) == 0 {
		return l, err
	}
	shut, end := context.WithCancel(context.Background())
	return &proxied{
		Listener: l, trusted: trusted, optional: e.config.ProxyProtocol.Optional, logger: e.logger,
		result: e.metrics.Counter("sallyport_proxyprotocol_connections_total", "Connections from trusted load balancers, by what became of their PROXY protocol header.", "result"),
		ready:  make(chan net.Conn), slots: make(chan struct{}, headersAtOnce), shut: shut, close: end, ended: make(chan struct{}),
	}, nil
}

// Accept returns a connection once it is known where it comes from.
func (p *proxied) Accept() (net.Conn, error) {
	p.begin.Do(func() { go p.accept() })
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.ended:
		return nil, p.err
	}
}

// Close implements net.Listener; headers that are on their way are given up.
func (p *proxied) Close() error {
	p.close()
	return p.Listener.Close()
}

// accept ends when the listener beneath does, and when all headers have been read or given up.
func (p *proxied) accept() {
	var reading sync.WaitGroup
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			p.err = err
			break
		}
		if !p.trusts(c.RemoteAddr()) {
			p.hand(c)
			continue
		}
		p.slots <- struct{}{}
		reading.Go(func() {
			defer func() { <-p.slots }()
			p.read(c)
		})
	}
	p.close()
	reading.Wait()
	close(p.ended)
}

func (p *proxied) trusts(remote net.Addr) bool {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, one := range p.trusted {
		if one.Contains(addr) {
			return true
		}
	}
	return false
}

// hand gives a connection to whoever accepts next.
func (p *proxied) hand(c net.Conn) {
	select {
	case p.ready <- c:
	case <-p.shut.Done():
		_ = c.Close()
	}
}

// read finds out where a load balancer's connection comes from.
func (p *proxied) read(c net.Conn) {
	stop := context.AfterFunc(p.shut, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	reader := bufio.NewReaderSize(c, headerBuffer)
	remote, result, err := p.origin(c, reader)
	p.result.WithLabelValues(result).Inc()
	if err != nil {
		p.logger.Warn("connection refused: the load balancer does not say where it comes from as agreed",
			zap.Stringer("balancer", c.RemoteAddr()), zap.Error(err))
		_ = c.Close()
		return
	}
	p.hand(&proxiedConn{Conn: c, reader: reader, remote: remote})
}

// origin reads the header. An absent one, where that is allowed, and one of the balancer's own (LOCAL: it looks whether this edge
// lives) leave the address as it is.
func (p *proxied) origin(c net.Conn, reader *bufio.Reader) (remote net.Addr, result string, err error) {
	header, err := proxyproto.ReadHeaderTimeout(c, reader, headerLimit)
	switch {
	case errors.Is(err, proxyproto.ErrNoProxyProtocol) && p.optional && reader.Buffered() > 0:
		return c.RemoteAddr(), "absent", nil
	case err != nil:
		return nil, "refused", err
	case header.Command.IsLocal():
		return c.RemoteAddr(), "local", nil
	}
	source, _, ok := header.TCPAddrs()
	if !ok || source.IP == nil || source.IP.IsUnspecified() {
		return nil, "refused", errors.New("its header names no TCP address")
	}
	return source, "taken", nil
}

// proxiedConn is a connection after its header.
type proxiedConn struct {
	net.Conn
	reader *bufio.Reader
	remote net.Addr
}

func (c *proxiedConn) RemoteAddr() net.Addr { return c.remote }

// Read drains first what came with the header. There is one reader at a time: TLS sees to that.
func (c *proxiedConn) Read(b []byte) (int, error) {
	if c.reader != nil {
		if c.reader.Buffered() > 0 {
			return c.reader.Read(b)
		}
		c.reader = nil // its buffer is large, and connections live long
	}
	return c.Conn.Read(b)
}

// SyscallConn lets the socket's options be set.
func (c *proxiedConn) SyscallConn() (syscall.RawConn, error) {
	under, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.EINVAL
	}
	return under.SyscallConn()
}
