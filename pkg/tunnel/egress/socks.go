package egress

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"
)

// socks5 asks for address on conn; the name is resolved by the proxy ("socks5h").
func socks5(ctx context.Context, conn net.Conn, u *url.URL, address string) error {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", u.Host, auth, forward{conn})
	if err != nil {
		return &Error{Proxy: u.Host, Kind: Protocol, Words: "cannot be used", Err: err}
	}
	// On success the library's connection is conn with an address beside it; conn itself is what the caller can tune.
	if _, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", address); err != nil {
		return socksError(u, address, err)
	}
	return nil
}

// forward hands out the connection to the proxy that is up already.
type forward struct{ conn net.Conn }

func (f forward) Dial(string, string) (net.Conn, error) { return f.conn, nil }

func (f forward) DialContext(context.Context, string, string) (net.Conn, error) { return f.conn, nil }

// socksError reads the library's words, which are the names of RFC 1928's replies and have no values of their own.
func socksError(u *url.URL, address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	text := err.Error()
	e := &Error{Proxy: u.Host, Kind: Protocol, Words: "does not answer as a SOCKS5 proxy", Err: err}
	said := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	case said("no acceptable authentication methods"):
		e.Kind, e.Words = Credentials, "wants a user name and password"
	case said("authentication failed"):
		e.Kind, e.Words = Credentials, "does not accept the user name and password that are configured"
	case said("not allowed by ruleset"):
		e.Kind, e.Words = Denied, "does not allow connections to "+address
	case said("unreachable", "connection refused", "general SOCKS server failure", "TTL expired"):
		e.Kind, e.Words = Upstream, "could not connect to "+address
	}
	return e
}
