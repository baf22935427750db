package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"sync"
	"time"
)

// leafLife of certificates that the local CA issues; renewed when a third is left. The browsers' limit is 398 days.
const leafLife = 30 * 24 * time.Hour

// maxLeaves bounds the cache. Only hosts of ours are in it, so that it is reached by configuration alone.
const maxLeaves = 10_000

// issuer makes certificates for single hosts and keeps them.
type issuer struct {
	ca  *authority
	now func() time.Time

	mu     sync.Mutex // guards leaves; held while a leaf is made, so that each is made once
	leaves map[string]*tls.Certificate
}

func newIssuer(ca *authority, now func() time.Time) *issuer {
	return &issuer{ca: ca, now: now, leaves: map[string]*tls.Certificate{}}
}

// leaf returns a certificate for a host that the caller knows to be one of ours. Hosts that allowed no longer knows make
// room when the cache is full.
func (i *issuer) leaf(host string, allowed func(string) bool) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	if c, ok := i.leaves[host]; ok && now.Before(c.Leaf.NotAfter.Add(-leafLife/3)) {
		return c, nil
	}
	c, err := i.issue(host, now)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if len(i.leaves) >= maxLeaves {
		for name := range i.leaves {
			if !allowed(name) || len(i.leaves) >= maxLeaves {
				delete(i.leaves, name)
			}
		}
	}
	i.leaves[host] = c
	return c, nil
}

// issue signs a fresh key. The chain carries the CA, so that a client which knows only its pin can check it.
func (i *issuer) issue(host string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	end := now.Add(leafLife)
	if end.After(i.ca.cert.NotAfter) {
		end = i.ca.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Sallyport"}},
		DNSNames:              []string{host},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.ca.cert, key.Public(), i.ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, i.ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
