package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// sockets are the two of the edge's one port.
type sockets struct {
	tcp net.Listener
	udp net.PacketConn // nil when QUIC is off
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
			return &sockets{tcp: tcp, udp: udp}, nil
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

func (s *sockets) Close() error {
	err := s.tcp.Close()
	if s.udp != nil {
		err = errors.Join(err, s.udp.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// linkTLS is the configuration for connectors over QUIC: theirs is the edge's own name, and no other gets a certificate.
func linkTLS(base *tls.Config, host string) *tls.Config {
	conf := base.Clone()
	find := base.GetCertificate
	conf.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != host {
			return nil, nil
		}
		return find(hello)
	}
	return conf
}

// listenQUIC takes connectors over UDP; nil without QUIC. The keys for stateless resets and address tokens come from
// master.key, so that peers of a process that died learn it from the next one at once (RFC 9000 §10.3).
func (e *Edge) listenQUIC() (tunnel.Listener, error) {
	if e.sockets.udp == nil {
		return nil, nil
	}
	conf := quiclink.Config{}
	for purpose, key := range map[string]**[32]byte{"edge/quic/reset": &conf.StatelessResetKey, "edge/quic/token": &conf.TokenKey} {
		mac, err := e.sealer.MAC(purpose, nil)
		if err != nil {
			return nil, err
		}
		*key = (*[32]byte)(mac)
	}
	listener, err := quiclink.NewListener(e.sockets.udp, linkTLS(e.certs.TLSConfig(tunnel.ALPN), e.config.Host), conf)
	if err != nil {
		return nil, err
	}
	return listener, nil
}
