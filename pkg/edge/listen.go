package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// sockets are the two of the edge's one port.
type sockets struct {
	tcp net.Listener
	udp *net.UDPConn // nil when QUIC is off
}

// listen opens TCP and, for the same port, UDP. A port of 0 takes one that is free for both.
func listen(ctx context.Context, address string, withUDP bool) (*sockets, error) {
	var lc net.ListenConfig
	for range 10 {
		tcp, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		if !withUDP {
			return &sockets{tcp: tcp}, nil
		}
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return &sockets{tcp: tcp, udp: udp.(*net.UDPConn)}, nil
		}
		if err := errors.Join(err, tcp.Close()); !freePort(address) {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	return nil, fmt.Errorf("listen %s: no port is free for both TCP and UDP", address)
}

func freePort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// linkTLS is the configuration for connectors over QUIC: theirs is the edge's own name, and no other gets a certificate.
func linkTLS(base *tls.Config, host string) *tls.Config {
	return onlyNames(base, func(name string) bool { return name == host })
}

// browserTLS is the configuration for browsers over QUIC: every host of ours but the edge's own, where they have no business.
func browserTLS(base *tls.Config, host string) *tls.Config {
	return onlyNames(base, func(name string) bool { return !strings.EqualFold(name, host) })
}

func onlyNames(base *tls.Config, mine func(name string) bool) *tls.Config {
	conf := base.Clone()
	conf.MinVersion = tls.VersionTLS13
	find := base.GetCertificate
	conf.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !mine(hello.ServerName) {
			return nil, nil
		}
		return find(hello)
	}
	return conf
}

// quicTLS serves links, and browsers where browsers is not nil. Whoever names both protocols speaks for a link, and gets no
// more than a link does.
func quicTLS(links, browsers *tls.Config) *tls.Config {
	if browsers == nil {
		return links
	}
	conf := links.Clone()
	conf.NextProtos = nil // the listener names both; GetConfigForClient decides
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, tunnel.ALPN) {
			return links, nil
		}
		return browsers, nil
	}
	return conf
}

// listenQUIC takes connectors, and browsers with HTTP/3, over UDP; nil without QUIC. The keys for stateless resets and
// address tokens come from master.key, so that peers of a process that died learn it from the next one at once (RFC 9000
// §10.3).
func (e *Edge) listenQUIC() (*quiclink.Listener, error) {
	if e.place.udp == nil {
		return nil, nil
	}
	conf := quiclink.Config{ConnectionID: e.place.udp.Epoch().ConnectionID, Enter: e.doors.enterQUIC, Repairs: fec.NewMetrics(e.metrics)}
	var browsers *tls.Config
	if e.config.HTTP3 {
		browsers = browserTLS(e.certs.TLSConfig(quiclink.ALPNHTTP3), e.config.Host)
		conf.HTTP3 = e.http3()
	}
	for purpose, key := range map[string]**[32]byte{"edge/quic/reset": &conf.StatelessResetKey, "edge/quic/token": &conf.TokenKey} {
		mac, err := e.sealer.MAC(purpose, nil)
		if err != nil {
			return nil, err
		}
		*key = (*[32]byte)(mac)
	}
	links := linkTLS(e.certs.TLSConfig(tunnel.ALPN), e.config.Host)
	return quiclink.NewListener(e.place.udp, quicTLS(links, browsers), conf)
}

// http3 serves browsers over QUIC as publicServer does over TCP, within limits of the same size.
func (e *Edge) http3() *quiclink.HTTP3 {
	connections := e.limits.Connections()
	return &quiclink.HTTP3{
		Handler: e.public(),
		Enter: func(remote net.Addr) (func(), bool) {
			return connections.Enter(remote.String())
		},
		HeaderTimeout: guard.HeaderTimeout, IdleTimeout: guard.IdleTimeout, MaxStreams: guard.MaxStreams,
		MaxHeaderBytes: guard.MaxHeaderBytes + guard.HeaderSlack,
	}
}

// altSvcAge is how long a browser may remember that HTTP/3 is offered, seconds. It goes on trying TCP beside it.
const altSvcAge = 24 * 60 * 60

// offerHTTP3 is the Alt-Svc of answers over TCP (RFC 7838 §3); nothing where HTTP/3 is not served.
func (e *Edge) offerHTTP3(port int) []string {
	if e.place.udp == nil || !e.config.HTTP3 {
		return nil
	}
	return []string{fmt.Sprintf(`%s=":%d"; ma=%d`, quiclink.ALPNHTTP3, port, altSvcAge)}
}
