package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// memoryAuthority is an AuthorityStore.
type memoryAuthority struct {
	mu   sync.Mutex
	kept *AuthorityKey
}

func (m *memoryAuthority) Authority(context.Context) (AuthorityKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		return AuthorityKey{}, fault.New(fault.NotFound, "none")
	}
	return *m.kept, nil
}

func (m *memoryAuthority) CreateAuthority(_ context.Context, a AuthorityKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept != nil {
		return fault.New(fault.Exists, "there is one")
	}
	m.kept = &a
	return nil
}

func anAuthority(t testing.TB) *authority {
	t.Helper()
	a, err := openAuthority(t.Context(), &memoryAuthority{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestEdgesThatStartAtOnceHaveOneAuthority(t *testing.T) {
	store := &memoryAuthority{}
	names := make([]string, 8)
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			a, err := openAuthority(t.Context(), store, time.Now)
			if err != nil {
				t.Error(err)
				return
			}
			names[i] = a.cluster
		})
	}
	all.Wait()
	for _, name := range names {
		if name != names[0] || name == "" {
			t.Fatalf("%q", names)
		}
	}
}

func TestDamagedAuthorityIsRefused(t *testing.T) {
	good, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ended, err := newAuthority(time.Now().Add(-authorityLife - time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a := anAuthority(t)
	leaf, key, err := a.issue("east")
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]AuthorityKey{
		"no certificate":      {Key: good.Key},
		"no key":              {Certificate: good.Certificate},
		"another's key":       {Certificate: good.Certificate, Key: other.Key},
		"ended":               ended,
		"a leaf in its place": {Certificate: leaf.Raw, Key: pkcs8},
	} {
		if _, err := openAuthority(t.Context(), &memoryAuthority{kept: &kept}, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// forged is a certificate made from what an honest one has, changed, and signed by whoever.
func forged(t *testing.T, a *authority, by *x509.Certificate, byKey *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial(), URIs: []*url.URL{a.name("west")}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}

func named(text string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		c.URIs = []*url.URL{u}
	}
}

// TestOnlyTheClustersOwnEdgesAreTaken: attack cases D3, D9, D10, D11 as real handshakes, from both sides.
func TestOnlyTheClustersOwnEdgesAreTaken(t *testing.T) {
	a, foreign := anAuthority(t), anAuthority(t)
	honest, honestKey, err := a.issue("west")
	if err != nil {
		t.Fatal(err)
	}
	stranger, strangerKey, err := foreign.issue("west")
	if err != nil {
		t.Fatal(err)
	}
	nested := func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}
	below, belowKey := forged(t, a, a.cert, a.key, nested)
	east, eastKey, err := a.issue("east")
	if err != nil {
		t.Fatal(err)
	}
	third, thirdKey, err := a.issue("north")
	if err != nil {
		t.Fatal(err)
	}
	type shown struct {
		chain []*x509.Certificate
		key   *ecdsa.PrivateKey
	}
	one := func(c *x509.Certificate, key *ecdsa.PrivateKey) shown { return shown{[]*x509.Certificate{c}, key} }
	by := func(c *x509.Certificate, key *ecdsa.PrivateKey, change func(*x509.Certificate)) shown {
		return one(forged(t, a, c, key, change))
	}
	leafByLeaf, leafByLeafKey := forged(t, a, honest, honestKey, nil)
	deep, deepKey := forged(t, a, below, belowKey, nil)
	for name, c := range map[string]struct {
		shown
		good bool
	}{
		"an honest edge":                       {one(honest, honestKey), true},
		"an honest edge and more in the chain": {shown{[]*x509.Certificate{honest, stranger, foreign.cert}, honestKey}, true},
		"no certificate":                       {shown{}, false},
		"another cluster's edge":               {one(stranger, strangerKey), false},
		"another cluster's, ours behind it":    {shown{[]*x509.Certificate{stranger, honest, a.cert}, strangerKey}, false},
		"its own authority in the chain":       {shown{[]*x509.Certificate{stranger, foreign.cert, a.cert}, strangerKey}, false},
		"signed by an edge":                    {shown{[]*x509.Certificate{leafByLeaf, honest}, leafByLeafKey}, false},
		"signed by an authority below":         {shown{[]*x509.Certificate{deep, below}, deepKey}, false},
		"an authority in an edge's place":      {one(below, belowKey), false},
		"the authority itself":                 {one(a.cert, a.key), false},
		"this edge's own name":                 {one(east, eastKey), false},
		"expired": {by(a.cert, a.key, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		}), false},
		"not yet": {by(a.cert, a.key, func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(20 * time.Minute)
		}), false},
		"for servers only": {by(a.cert, a.key, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), false},
		"may sign": {by(a.cert, a.key, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), false},
		"two names": {by(a.cert, a.key, func(c *x509.Certificate) {
			c.URIs = append(c.URIs, a.name("north"))
		}), false},
		"a DNS name too":        {by(a.cert, a.key, func(c *x509.Certificate) { c.DNSNames = []string{"edge.example"} }), false},
		"another role":          {by(a.cert, a.key, named("sallyport://"+a.cluster+"/connector/west")), false},
		"another cluster's URI": {by(a.cert, a.key, named("sallyport://"+foreign.cluster+"/edge/west")), false},
		"another scheme":        {by(a.cert, a.key, named("https://"+a.cluster+"/edge/west")), false},
		"a query":               {by(a.cert, a.key, named("sallyport://"+a.cluster+"/edge/west?x")), false},
		"a path below":          {by(a.cert, a.key, named("sallyport://"+a.cluster+"/edge/west/x")), false},
		"escaped":               {by(a.cert, a.key, named("sallyport://"+a.cluster+"/edge/%77est")), false},
	} {
		ours := newCredentials(a, "east")
		conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert}
		if c.key != nil {
			cert := tls.Certificate{PrivateKey: c.key}
			for _, one := range c.chain {
				cert.Certificate = append(cert.Certificate, one.Raw)
			}
			conf.Certificates = []tls.Certificate{cert}
			err := shake(ours.client("west"), conf)
			if (err == nil) != c.good {
				t.Errorf("%s answers: %v", name, err)
			}
		}
		if err := shake(conf, ours.server()); (err == nil) != c.good {
			t.Errorf("%s dials: %v", name, err)
		}
	}
	wrong := &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{third.Raw}, PrivateKey: thirdKey}},
	}
	if err := shake(newCredentials(a, "east").client("west"), wrong); err == nil {
		t.Error("another edge answers in place of the one that was dialled, and is taken")
	}
}

// shake returns what either side has against the other; both must have taken each other.
func shake(client, server *tls.Config) error {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	deadline := time.Now().Add(5 * time.Second)
	_, _ = near.SetDeadline(deadline), far.SetDeadline(deadline)
	served := make(chan error, 1)
	go func() {
		c := tls.Server(far, server)
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte{1})
		} else {
			_ = far.Close()
		}
		served <- err
	}()
	c := tls.Client(near, client)
	err := c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	_ = near.Close()
	return errors.Join(err, <-served)
}

func TestCertificatesAreRenewedInTime(t *testing.T) {
	now := time.Now()
	a, err := openAuthority(t.Context(), &memoryAuthority{}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	c := newCredentials(a, "east")
	first, err := c.certificate()
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		now = now.Add(leafLife / 4)
		got, err := c.certificate()
		if err != nil {
			t.Fatal(err)
		}
		if left := got.Leaf.NotAfter.Sub(now); left < leafLife/3 {
			t.Fatalf("%s left", left)
		}
		if _, err := a.judge([]*x509.Certificate{got.Leaf}); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := c.certificate(); again.Leaf.Equal(first.Leaf) {
		t.Error("it was never renewed")
	}
}

// Clocks of edges may be ten minutes apart.
func TestClocksMayDiffer(t *testing.T) {
	a := anAuthority(t)
	leaf, _, err := a.issue("west")
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		b := *a
		b.now = func() time.Time { return time.Now().Add(off) }
		if got, err := b.judge([]*x509.Certificate{leaf}); err != nil || got != id.Edge("west") {
			t.Errorf("%s: %q, %v", off, got, err)
		}
	}
}
