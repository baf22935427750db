package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Life of the certificates that edges know each other by. A certificate begins an hour before it is made, because clocks of edges may be
// minutes apart.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	leafLife      = 24 * time.Hour
	backdate      = time.Hour
)

// AuthorityKey is the cluster's authority as it is kept: a certificate and its private key, DER and PKCS #8.
type AuthorityKey struct {
	Certificate []byte
	Key         []byte // sealed at rest
	Created     time.Time
}

// AuthorityStore keeps the one authority of a cluster.
type AuthorityStore interface {
	// Authority returns it, or fault.NotFound.
	Authority(ctx context.Context) (AuthorityKey, error)
	// CreateAuthority keeps a as the authority unless there is one (then fault.Exists): of edges that start at once one wins.
	CreateAuthority(ctx context.Context, a AuthorityKey) error
}

// authority issues and judges the certificates of edges.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// cluster names the cluster by its authority's key, so that a certificate says whose it is in every place.
	cluster string
	roots   *x509.CertPool
	now     func() time.Time
}

// openAuthority reads the cluster's authority, or makes it.
func openAuthority(ctx context.Context, store AuthorityStore, now func() time.Time) (*authority, error) {
	kept, err := store.Authority(ctx)
	if fault.Is(err, fault.NotFound) {
		var made AuthorityKey
		if made, err = newAuthority(now()); err != nil {
			return nil, fmt.Errorf("cluster authority: %w", err)
		}
		// fault.Exists: another edge was first, and its authority is read next.
		if err = store.CreateAuthority(ctx, made); err == nil || fault.Is(err, fault.Exists) {
			kept, err = store.Authority(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cluster authority: %w", err)
	}
	a, err := parseAuthority(kept, now)
	if err != nil {
		return nil, fmt.Errorf("cluster authority in the store: %w", err)
	}
	return a, nil
}

func newAuthority(now time.Time) (AuthorityKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return AuthorityKey{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Sallyport"}, CommonName: "Sallyport cluster authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return AuthorityKey{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return AuthorityKey{Certificate: der, Key: pkcs8, Created: now}, err
}

// serial is 127 random bits: positive, and within the 20 octets of RFC 5280 §4.1.2.2.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// parseAuthority refuses what could not be the authority: better no links than links with anybody.
func parseAuthority(kept AuthorityKey, now func() time.Time) (*authority, error) {
	cert, err := x509.ParseCertificate(kept.Certificate)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(kept.Key)
	if err != nil {
		return nil, errors.New("its key is no PKCS #8 key") // the parser's words could quote it
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok || !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("its key and its certificate do not belong together")
	case !cert.IsCA || !cert.BasicConstraintsValid || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign:
		return nil, errors.New("its certificate is not that of an authority")
	case cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil:
		return nil, errors.New("its certificate is not signed by itself")
	case !now().Before(cert.NotAfter):
		return nil, fmt.Errorf("it ended on %s", cert.NotAfter.Format(time.DateOnly))
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	a := &authority{cert: cert, key: key, cluster: hex.EncodeToString(sum[:16]), roots: x509.NewCertPool(), now: now}
	a.roots.AddCert(cert)
	return a, nil
}

// name is what a certificate says of an edge.
func (a *authority) name(edge id.Edge) *url.URL {
	return &url.URL{Scheme: "sallyport", Host: a.cluster, Path: "/edge/" + string(edge)}
}

// issue makes a certificate for an edge over a fresh key.
func (a *authority) issue(edge id.Edge) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("edge certificate: %w", err)
	}
	now := a.now()
	end := now.Add(leafLife)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Sallyport"}},
		URIs:                  []*url.URL{a.name(edge)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("edge certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("edge certificate: %w", err)
	}
	return leaf, key, nil
}

// judge returns the edge whose certificate a peer showed, and proved the key of in the handshake. Only the first one counts, and it
// must be signed by the authority itself: what else is in the chain means nothing.
func (a *authority) judge(shown []*x509.Certificate) (id.Edge, error) {
	if len(shown) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	leaf := shown[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: x509.NewCertPool(), CurrentTime: a.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", fmt.Errorf("the peer's certificate is not of this cluster: %w", err)
	}
	switch {
	case leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature:
		return "", errors.New("the peer's certificate is not one of an end entity")
	case !hasBoth(leaf.ExtKeyUsage) || len(leaf.UnknownExtKeyUsage) > 0:
		return "", errors.New("the peer's certificate is made for something else")
	case len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses) > 0:
		return "", errors.New("the peer's certificate does not have exactly one name")
	}
	return a.parseName(leaf.URIs[0].String())
}

func hasBoth(usages []x509.ExtKeyUsage) bool {
	return len(usages) == 2 && usages[0] != usages[1] &&
		(usages[0] == x509.ExtKeyUsageClientAuth || usages[0] == x509.ExtKeyUsageServerAuth) &&
		(usages[1] == x509.ExtKeyUsageClientAuth || usages[1] == x509.ExtKeyUsageServerAuth)
}

// parseName reads a name of this cluster's edges, in the one way that it is written.
func (a *authority) parseName(text string) (id.Edge, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("the peer's name: %w", err)
	}
	const role = "/edge/"
	if len(u.Path) <= len(role) || u.Path[:len(role)] != role {
		return "", fmt.Errorf("the peer is no edge: %.100q", text)
	}
	edge, err := id.ParseLabel[id.Edge]("edge", u.Path[len(role):])
	if err != nil {
		return "", fmt.Errorf("the peer's name: %w", err)
	}
	if text != a.name(edge).String() {
		return "", fmt.Errorf("the peer's name is not of this cluster: %.100q", text)
	}
	return edge, nil
}
