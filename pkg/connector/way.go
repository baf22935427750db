package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
)

const (
	// addressFile in the state directory keeps where the edge was reached last, for a start while DNS is down.
	addressFile = "addresses.json"
	// maxRemembered is how many addresses are kept.
	maxRemembered = 16
	maxSmallFile  = 1 << 20
)

// Target is where to dial for this identity, how to know the edge's certificate, and the way out of the building. A pin stays
// the only thing that counts where enrolment set one: whoever holds a key of CAFile cannot pass for the edge. With TLSInspection
// that is so without a pin too.
func (c Config) Target(i Identity) (tunnel.Target, error) {
	t, err := i.Target()
	if err != nil {
		return t, err
	}
	roots, err := c.roots()
	if err != nil {
		return t, err
	}
	switch {
	case c.TLSInspection:
		t.Outer = outer(i, t, roots)
	case roots != nil && i.CAPin == "" && i.CAPEM == "":
		t.TLS.RootCAs = roots
	}
	way, err := c.Egress()
	if err != nil {
		return t, err
	}
	t.Proxy = func(address string) (func(context.Context, string, string) (net.Conn, error), error) {
		u, err := way.For(address)
		if err != nil || u == nil {
			return nil, err
		}
		return way.Connect, nil
	}
	if c.StateDir != "" {
		t.Known = c.remembered(t.URL.Hostname())
	}
	return t, nil
}

// outer judges what answers outside where a firewall may open TLS: the edge itself, in case nothing does, or whom the system and
// CAFile trust.
func outer(i Identity, t tunnel.Target, roots *x509.CertPool) *tls.Config {
	if i.CAPin != "" {
		return certs.EitherConfig(i.CAPin, t.URL.Hostname(), roots)
	}
	if i.CAPEM != "" {
		if roots == nil {
			roots = systemRoots()
		}
		roots.AppendCertsFromPEM([]byte(i.CAPEM))
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

// Egress is the configured way out.
func (c Config) Egress() (*egress.Egress, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	password, err := c.proxyPassword()
	if err != nil {
		return nil, err
	}
	way, err := egress.New(egress.Config{Proxy: c.Proxy, Password: password, Roots: roots})
	if err != nil {
		return nil, fault.New(fault.Invalid, "proxy: %v", err)
	}
	return way, nil
}

// proxyPassword reads ProxyPasswordFile; empty without one.
func (c Config) proxyPassword() (string, error) {
	if c.ProxyPasswordFile == "" {
		return "", nil
	}
	text, err := readSmall(c.ProxyPasswordFile)
	if err != nil {
		return "", fault.New(fault.Invalid, "proxy_password_file: %v", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fault.New(fault.Invalid, "proxy_password_file: %s is empty", c.ProxyPasswordFile)
	}
	return password, nil
}

// roots are the system's with those of CAFile; nil without CAFile.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := readSmall(c.CAFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "ca_file: %v", err)
	}
	pool := systemRoots()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fault.New(fault.Invalid, "ca_file: %s holds no PEM certificate", c.CAFile)
	}
	return pool, nil
}

func systemRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return pool
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (info.Size() > maxSmallFile || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%s is no file of at most 1 MiB", path)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// lastAddresses is what addressFile holds. It is no secret and no authority: which edge answers there, TLS says.
type lastAddresses struct {
	Host      string       `json:"host"`
	Addresses []netip.Addr `json:"addresses"`
}

// remembered reads what an earlier run left; a file that is missing or damaged is as good as none.
func (c Config) remembered(host string) *tunnel.Addresses {
	known := new(tunnel.Addresses)
	var last lastAddresses
	text, err := readSmall(filepath.Join(c.StateDir, addressFile))
	if err == nil && json.Unmarshal(text, &last) == nil && last.Host == host && len(last.Addresses) <= maxRemembered {
		known.Remember(host, last.Addresses)
	}
	logger := c.withDefaults().Logger
	known.Keep = func(host string, addrs []netip.Addr) {
		text, err := json.Marshal(lastAddresses{Host: host, Addresses: addrs[:min(len(addrs), maxRemembered)]})
		if err == nil {
			err = writeFile(c.StateDir, addressFile, append(text, '\n'))
		}
		if err != nil {
			logger.Warn("where the edge is could not be noted for the next start", zap.Error(err))
		}
	}
	return known
}
