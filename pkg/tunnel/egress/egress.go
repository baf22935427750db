// Package egress owns the way out of the building where a proxy stands in it: HTTP CONNECT (RFC 9110 §9.3.6), over TLS too, and
// SOCKS5 (RFC 1928, 1929), from the configuration or from the environment. Names are left to the proxy to resolve. It opens TCP
// connections and knows nothing of what travels on them; QUIC goes through no proxy.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// timeLimit bounds the whole way through a proxy: reaching it, TLS to it, and its answer.
const timeLimit = 10 * time.Second

// Config says which proxy stands in the way.
type Config struct {
	// Proxy is the configured one; its zero value asks the environment.
	Proxy Address
	// Password is the proxy user's, in place of one in Proxy.
	Password string
	// Roots are trusted for an https proxy; nil: the system's.
	Roots *x509.CertPool
	// Getenv reads the environment; nil: os.Getenv.
	Getenv func(string) string
}

// Egress chooses the proxy for an address and connects through it. It is safe for concurrent use; nil is no proxy.
type Egress struct {
	choose func(*url.URL) (*url.URL, error)
	// Source says where the proxy comes from: "configuration", "environment" or "none".
	source string
	roots  *x509.CertPool
}

// New checks the configuration. The environment's variables are HTTPS_PROXY, else ALL_PROXY, and NO_PROXY, in capitals or not;
// what they hold is checked when it is used.
func New(cfg Config) (*Egress, error) {
	e := &Egress{roots: cfg.Roots}
	fixed := cfg.Proxy.url
	switch {
	case cfg.Password != "" && (fixed == nil || fixed.User == nil):
		return nil, errors.New("a proxy password without a user: write the user into proxy, http://user@proxy.example:3128")
	case cfg.Proxy.direct:
		e.source, e.choose = "none", func(*url.URL) (*url.URL, error) { return nil, nil }
	case fixed != nil:
		u := *fixed
		if cfg.Password != "" {
			u.User = url.UserPassword(u.User.Username(), cfg.Password)
		}
		e.source, e.choose = "configuration", func(*url.URL) (*url.URL, error) { return &u, nil }
	default:
		e.source, e.choose = "environment", fromEnvironment(cfg.Getenv)
	}
	return e, nil
}

func fromEnvironment(getenv func(string) string) func(*url.URL) (*url.URL, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	either := func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return getenv(strings.ToLower(name))
	}
	conf := &httpproxy.Config{HTTPSProxy: either("HTTPS_PROXY"), NoProxy: either("NO_PROXY")}
	if conf.HTTPSProxy == "" {
		conf.HTTPSProxy = either("ALL_PROXY")
	}
	choose := conf.ProxyFunc()
	return func(u *url.URL) (*url.URL, error) {
		if host := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); strings.HasSuffix(host, ".localhost") {
			return nil, nil // this machine (RFC 6761 §6.3), which httpproxy knows of "localhost" alone
		}
		found, err := choose(u)
		if err != nil || found == nil {
			if err != nil {
				err = errMalformed // the cause quotes the password
			}
			return nil, err
		}
		return checked(found)
	}
}

// For returns the proxy that connections to address (host:port) go through, and nil where they go straight. The password is
// in it: Shown is for people.
func (e *Egress) For(address string) (*url.URL, error) {
	if e == nil {
		return nil, nil
	}
	u, err := e.choose(&url.URL{Scheme: "https", Host: address})
	if err != nil {
		return nil, fmt.Errorf("proxy from the %s: %w", e.source, err)
	}
	return u, nil
}

// Source says where the proxy comes from: "configuration", "environment", or "none" where it was switched off.
func (e *Egress) Source() string {
	if e == nil {
		return "none"
	}
	return e.source
}

// Shown is the proxy's URL without its password.
func Shown(u *url.URL) string {
	if u == nil {
		return "none"
	}
	return u.Redacted()
}

// Connect opens a TCP connection to address through the proxy within 10 s, or straight where none stands in between. What went
// wrong at the proxy is an *Error.
func (e *Egress) Connect(ctx context.Context, network, address string) (net.Conn, error) {
	u, err := e.For(address)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return e.Through(ctx, u, address)
}

// Through opens a TCP connection to address through the proxy u.
func (e *Egress) Through(ctx context.Context, u *url.URL, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, &Error{Proxy: u.Host, Kind: Unreachable, Words: "cannot be reached", Err: err}
	}
	through, err := e.negotiate(ctx, conn, u, address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return through, nil
}

func (e *Egress) negotiate(ctx context.Context, conn net.Conn, u *url.URL, address string) (net.Conn, error) {
	if strings.HasPrefix(u.Scheme, "socks5") {
		return conn, socks5(ctx, conn, u, address)
	}
	if u.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{
			ServerName: u.Hostname(), RootCAs: e.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, &Error{Proxy: u.Host, Kind: Unreachable, Words: "cannot be spoken to over TLS", Err: err}
		}
		conn = secured
	}
	return conn, connect(ctx, conn, u, address)
}
