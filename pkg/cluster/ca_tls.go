package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// credentials are what this edge process shows to others, and how it judges what they show.
type credentials struct {
	authority *authority
	self      id.Edge

	mu   sync.Mutex // guards leaf; held while one is made, so that each is made once
	leaf *tls.Certificate
}

func newCredentials(a *authority, self id.Edge) *credentials {
	return &credentials{authority: a, self: self}
}

// certificate is the present one, a new one when a third of its life is left. A link outlives the certificate that it began with.
func (c *credentials) certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaf != nil && c.authority.now().Before(c.leaf.Leaf.NotAfter.Add(-leafLife/3)) {
		return c.leaf, nil
	}
	leaf, key, err := c.authority.issue(c.self)
	if err != nil {
		return nil, err
	}
	c.leaf = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return c.leaf, nil
}

// server takes any edge of the cluster. There are no session tickets: every connection proves itself in full.
func (c *credentials) server() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := c.peer(s.PeerCertificates)
			return err
		},
	}
}

// client takes one edge of the cluster, and no other.
func (c *credentials) client(want id.Edge) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Names of edges are no DNS names. The chain is judged below, by the cluster's authority in place of the system's roots.
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			edge, err := c.peer(s.PeerCertificates)
			if err == nil && edge != want {
				err = fmt.Errorf("edge %s answers in place of %s", edge, want)
			}
			return err
		},
	}
}

// peer is authority.judge for another edge than this one.
func (c *credentials) peer(shown []*x509.Certificate) (id.Edge, error) {
	edge, err := c.authority.judge(shown)
	if err == nil && edge == c.self {
		err = fmt.Errorf("the peer calls itself %s, as this edge is called: is state_dir a copy of another edge's? set cluster.edge", edge)
	}
	return edge, err
}
