package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// Target is an edge to dial.
type Target struct {
	// URL is the edge's, such as https://edge.example:8443. Names under .localhost are loopback (RFC 6761 §6.3).
	URL *url.URL
	// Address is the host:port to connect to; "" takes URL's.
	Address string
	// ServerName is the name that TLS asks for and verifies; "" takes URL's host.
	ServerName string
	// TLS says whom to trust and who we are. It is cloned; protocol names and versions are the transport's.
	TLS *tls.Config
	// Outer is for where a firewall opens TLS: it says whom to trust on the outside, and connections over TCP are then made inside a
	// WebSocket to the edge, with a TLS of their own, which TLS above is for. It is cloned; protocol names are the transport's. nil:
	// connections are made straight. QUIC always is.
	Outer *tls.Config
	// Proxy chooses what connects to host:port where an outgoing proxy stands in between; nil, or nil from it: TCP goes straight.
	// QUIC always does.
	Proxy func(address string) (func(ctx context.Context, network, address string) (net.Conn, error), error)
	// Known remembers where the edge was, for when DNS is down; nil does without.
	Known *Addresses
	// Bulk says that the link is for bulk bodies alone: both ends of it take larger windows.
	Bulk bool
}

// HostPort returns where to connect to.
func (t Target) HostPort() (host string, port uint16, err error) {
	address := t.Address
	if address == "" {
		if t.URL == nil || t.URL.Hostname() == "" {
			return "", 0, fmt.Errorf("target: neither address nor URL")
		}
		p := t.URL.Port()
		if p == "" {
			p = "443"
		}
		address = net.JoinHostPort(t.URL.Hostname(), p)
	}
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("target: %w", err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("target: port %q", p)
	}
	return host, uint16(n), nil
}

// ClientTLS returns a clone of TLS for this target: TLS 1.3 only, offering exactly alpn.
func (t Target) ClientTLS(alpn string) *tls.Config {
	conf := &tls.Config{}
	if t.TLS != nil {
		conf = t.TLS.Clone()
	}
	conf.MinVersion = tls.VersionTLS13
	conf.MaxVersion = 0
	conf.NextProtos = []string{alpn}
	switch {
	case t.ServerName != "":
		conf.ServerName = t.ServerName
	case conf.ServerName == "" && t.URL != nil:
		conf.ServerName = t.URL.Hostname()
	case conf.ServerName == "":
		if host, _, err := t.HostPort(); err == nil {
			conf.ServerName = host
		}
	}
	return conf
}

// Via returns what connects through the proxy on the way to the target, with the address to give it, or nil without a proxy.
func (t Target) Via() (connect func(ctx context.Context, network, address string) (net.Conn, error), address string, err error) {
	if t.Proxy == nil {
		return nil, "", nil
	}
	host, port, err := t.HostPort()
	if err != nil {
		return nil, "", err
	}
	address = net.JoinHostPort(host, strconv.Itoa(int(port)))
	connect, err = t.Proxy(address)
	return connect, address, err
}
