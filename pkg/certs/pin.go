package certs

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

const pinPrefix = "sha256:"

// Pin names a certificate's key: "sha256:" and the base64url of the SHA-256 of its SubjectPublicKeyInfo (RFC 7469 §2.4). It
// outlives renewals that keep the key.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return pinPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// CheckPin reports a pin that Pin cannot have made (fault.Invalid).
func CheckPin(pin string) error {
	rest, ok := strings.CutPrefix(pin, pinPrefix)
	sum, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(sum) != sha256.Size {
		return fault.New(fault.Invalid, "CA pin %.80q: want sha256: and 43 characters", pin)
	}
	return nil
}

// PinnedConfig is the configuration of a client that knows its peer by a pinned CA alone: the leaf must chain to a CA
// certificate in the presented chain whose key has the pin, cover serverName, and be made for servers. Further
// certificates in the chain mean nothing. A malformed pin trusts nobody.
func PinnedConfig(pin, serverName string) *tls.Config {
	c := base()
	c.ServerName = serverName
	// Chain and name are checked below, against the pin in place of the system's roots. VerifyConnection, unlike
	// VerifyPeerCertificate, runs on resumption too.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		return VerifyPinned(cs.PeerCertificates, pin, serverName, time.Now())
	}
	return c
}

// VerifyPinned judges a presented chain as PinnedConfig does, at a time of the caller's choice.
func VerifyPinned(chain []*x509.Certificate, pin, serverName string, at time.Time) error {
	if err := CheckPin(pin); err != nil {
		return err
	}
	if len(chain) == 0 || serverName == "" {
		return errors.New("the peer showed no certificate")
	}
	roots, others, found := x509.NewCertPool(), x509.NewCertPool(), false
	for _, c := range chain[1:] {
		if c.IsCA && c.BasicConstraintsValid && subtle.ConstantTimeCompare([]byte(Pin(c)), []byte(pin)) == 1 {
			roots.AddCert(c)
			found = true
		} else {
			others.AddCert(c)
		}
	}
	if !found {
		return fmt.Errorf("no CA in the peer's chain has the pinned key: the certificate was issued by %.100q; if that is a firewall, "+
			"TLS is opened on the way: have the edge's name exempted from inspection there, or set tls_inspection if it is not", chain[0].Issuer.String())
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, DNSName: serverName, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// EitherConfig is the configuration of a client that takes what PinnedConfig takes, and also what roots vouch for (nil: the
// system's). It is for the outside of a connection that has a TLS of its own inside.
func EitherConfig(pin, serverName string, roots *x509.CertPool) *tls.Config {
	c := PinnedConfig(pin, serverName)
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if VerifyPinned(cs.PeerCertificates, pin, serverName, time.Now()) == nil {
			return nil
		}
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the peer showed no certificate")
		}
		others := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			others.AddCert(c)
		}
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, DNSName: serverName})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		}
		return nil
	}
	return c
}

// CAConfig is the configuration of a client that trusts the CAs in a PEM bundle and no others. It fails when there is none:
// an unreadable bundle must not mean the system's roots.
func CAConfig(pem []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "the CA file holds no PEM certificate")
	}
	c := base()
	c.RootCAs = pool
	return c, nil
}

// Pin returns the pin that enrolment gives to connectors: of the local CA, or of the last CA in the chain of the certificate
// that covers host. It is "" when the chain holds no CA: such connectors trust the system's roots.
func (m *Manager) Pin(host string) string {
	for _, c := range *m.loaded.Load() {
		if c.Leaf.VerifyHostname(host) != nil {
			continue
		}
		for i := len(c.Certificate) - 1; i > 0; i-- {
			if ca, err := x509.ParseCertificate(c.Certificate[i]); err == nil && ca.IsCA {
				return Pin(ca)
			}
		}
		return ""
	}
	if m.issuer == nil {
		return ""
	}
	return Pin(m.issuer.ca.cert)
}
