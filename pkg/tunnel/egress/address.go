package egress

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// errMalformed quotes nothing: what is malformed may hold a password.
var errMalformed = errors.New("want http://, https:// or socks5:// with host and port, such as http://user@proxy.clinic.example:3128; or none")

// Address is a proxy as the configuration has it; printing it shows no password. The zero value leaves it to the environment.
type Address struct {
	url    *url.URL
	direct bool
}

// Direct reports whether proxies are switched off; Set, whether one is named.
func (a Address) Direct() bool { return a.direct }

// Set reports whether a proxy is named.
func (a Address) Set() bool { return a.url != nil }

// Named is the address of the proxy u, as For returns it.
func Named(u *url.URL) Address { return Address{url: u} }

// Apart returns the address without its password, and the password; "" where it holds none.
func (a Address) Apart() (bare Address, password string) {
	if a.url == nil || a.url.User == nil {
		return a, ""
	}
	password, _ = a.url.User.Password()
	u := *a.url
	u.User = url.User(u.User.Username())
	return Address{url: &u}, password
}

// HasUser reports whether the proxy is to be told a user's name.
func (a Address) HasUser() bool { return a.url != nil && a.url.User != nil }

// String shows no password.
func (a Address) String() string {
	switch {
	case a.direct:
		return "none"
	case a.url == nil:
		return ""
	}
	return a.url.Redacted()
}

// GoString covers %#v.
func (a Address) GoString() string { return a.String() }

// MarshalText writes what String shows.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a URL, "none" for no proxy whatever the environment says, or "" for what the environment says.
func (a *Address) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "":
		*a = Address{}
	case "none":
		*a = Address{direct: true}
	default:
		u, err := url.Parse(s)
		if err != nil {
			return errMalformed
		}
		if u, err = checked(u); err != nil {
			return err
		}
		*a = Address{url: u}
	}
	return nil
}

// checked returns u with its port, if it is a proxy that this package can use.
func checked(u *url.URL) (*url.URL, error) {
	port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	if port == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, errMalformed
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errMalformed
		}
		port = p
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(u.Hostname(), port)}, nil
}
