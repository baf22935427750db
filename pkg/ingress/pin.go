package ingress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
)

const pinPrefix = "sha256:"

// errPin is what a handshake fails with when the origin shows another key.
var errPin = errors.New("the origin's key is not the pinned one")

// PrintPin connects to an https origin and returns the pin of the key that it shows, for `pin_sha256`. It checks nothing
// about the certificate: whoever uses the pin should compare it once at the server itself.
func PrintPin(ctx context.Context, origin string) (string, error) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("%q: want https://host:port", origin)
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", authority(u))
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = raw.Close() }()
	conn := tls.Client(raw, &tls.Config{
		ServerName:         u.Hostname(),
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // this asks which key is there; nothing is sent
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", fmt.Errorf("TLS: %w", err)
	}
	return pinOf(conn.ConnectionState().PeerCertificates[0]), nil
}

func pinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// config returns the TLS settings towards the origin. There is no way to switch verification off: a pin replaces the chain
// by the exact key, and with a ca_file both must hold.
func (t *TLS) config(host string) *tls.Config {
	c := &tls.Config{
		ServerName: host, RootCAs: t.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(32),
	}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if len(t.Pin) == 0 {
		return c
	}
	c.InsecureSkipVerify = t.Roots == nil //nolint:gosec // VerifyConnection checks the key itself
	// VerifyConnection also runs when a session is resumed.
	c.VerifyConnection = func(state tls.ConnectionState) error {
		sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if !bytes.Equal(sum[:], t.Pin) {
			return errPin
		}
		return nil
	}
	return c
}

// authority is the host:port to dial for u.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
