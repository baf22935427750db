package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

const host = "oscar.maple.example"

func allowed(h string) bool { return h == host || h == "second.maple.example" }

func localCA(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := certs.InitLocalCA(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func manager(t *testing.T, cfg certs.Config) *certs.Manager {
	t.Helper()
	if cfg.HostAllowed == nil {
		cfg.HostAllowed = allowed
	}
	m, err := certs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// meet runs one handshake over real sockets and returns both ends' view of it.
func meet(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		c := tls.Server(raw, server)
		if c.Handshake() == nil {
			_, _ = c.Write([]byte("x"))
		}
		_ = c.Close()
	}()
	defer func() { <-done }()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	c := tls.Client(raw, client)
	if err := c.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = io.ReadAll(c) // session tickets come with the data
	return c.ConnectionState(), err
}

func caConfig(t *testing.T, dir, name string) *tls.Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := certs.CAConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	c.ServerName = name
	return c
}

func TestLocalCAServesHostsOfOurs(t *testing.T) {
	dir := localCA(t)
	info, err := os.Stat(filepath.Join(dir, certs.CAKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	if err := certs.InitLocalCA(dir); !fault.Is(err, fault.Exists) {
		t.Errorf("a second CA: %v", err)
	}
	m := manager(t, certs.Config{LocalCA: dir})
	client := caConfig(t, dir, strings.ToUpper(host))
	client.NextProtos = []string{"h2"}
	cs, err := meet(t, m.TLSConfig(), client)
	if err != nil {
		t.Fatal(err)
	}
	leaf := cs.PeerCertificates[0]
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != host {
		t.Errorf("version %x, protocol %q, names %v", cs.Version, cs.NegotiatedProtocol, leaf.DNSNames)
	}
	again, err := meet(t, m.TLSConfig(), caConfig(t, dir, host))
	if err != nil || !again.PeerCertificates[0].Equal(leaf) {
		t.Errorf("the leaf was not kept: %v", err)
	}
}

func TestUnknownNamesGetTheAlert(t *testing.T) {
	dir := localCA(t)
	m := manager(t, certs.Config{LocalCA: dir})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"unknown.example", "x." + host, ""} {
			client := caConfig(t, dir, name)
			client.MaxVersion = version
			client.InsecureSkipVerify = true // only the server's answer is looked at
			if _, err := meet(t, m.TLSConfig(), client); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func TestOldProtocolsAreRefused(t *testing.T) {
	dir := localCA(t)
	m := manager(t, certs.Config{LocalCA: dir})
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.1": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"no forward secrecy": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		},
		"CBC": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		},
	} {
		client := caConfig(t, dir, host)
		change(client)
		if _, err := meet(t, m.TLSConfig(), client); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

// TestTicketsOpenNoOtherHost resumes where the ticket is from, and nowhere else.
func TestTicketsOpenNoOtherHost(t *testing.T) {
	dir := localCA(t)
	known := map[string]bool{host: true, "second.maple.example": true}
	m := manager(t, certs.Config{LocalCA: dir, HostAllowed: func(h string) bool { return known[h] }})
	server := m.TLSConfig()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		known[host] = true
		cache := oneTicket{tls.NewLRUClientSessionCache(1)}
		client := func(name string) *tls.Config {
			c := caConfig(t, dir, name)
			c.ClientSessionCache, c.MaxVersion = cache, version
			c.InsecureSkipVerify = true // a client that does not care whom it resumes with
			return c
		}
		if _, err := meet(t, server, client(host)); err != nil {
			t.Fatal(err)
		}
		if cs, err := meet(t, server, client(host)); err != nil || !cs.DidResume {
			t.Errorf("%x: the same host: resumed %v, %v", version, cs.DidResume, err)
		}
		if cs, err := meet(t, server, client("second.maple.example")); err != nil || cs.DidResume {
			t.Errorf("%x: another host: resumed %v, %v", version, cs.DidResume, err)
		}
		if _, err := meet(t, server, client(host)); err != nil {
			t.Fatal(err)
		}
		known[host] = false
		if _, err := meet(t, server, client(host)); err == nil {
			t.Errorf("%x: a host that is gone was resumed", version)
		}
	}
}

// oneTicket offers the newest ticket to every host.
type oneTicket struct{ tls.ClientSessionCache }

func (o oneTicket) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("") }

func (o oneTicket) Put(_ string, state *tls.ClientSessionState) { o.ClientSessionCache.Put("", state) }

func TestPins(t *testing.T) {
	dir, foreign := localCA(t), localCA(t)
	m := manager(t, certs.Config{LocalCA: dir})
	pin := m.Pin(host)
	if err := certs.CheckPin(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := meet(t, m.TLSConfig(), certs.PinnedConfig(pin, host)); err != nil {
		t.Errorf("the right pin: %v", err)
	}
	other := manager(t, certs.Config{LocalCA: foreign})
	for name, c := range map[string]*tls.Config{
		"another CA's pin": certs.PinnedConfig(other.Pin(host), host),
		"no pin":           certs.PinnedConfig("", host),
		"half a pin":       certs.PinnedConfig(pin[:20], host),
	} {
		if _, err := meet(t, m.TLSConfig(), c); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
	// The pinned CA beside a leaf that it did not sign (attack case D9).
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, certs.CAFile), filepath.Join(dir, certs.CAKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*x509.Certificate){
		"self-signed": func(*x509.Certificate) {},
		"itself a CA": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
	} {
		leaf := selfSigned(t, f)
		leaf.Certificate = append(leaf.Certificate, ca.Certificate[0])
		if _, err := meet(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, certs.PinnedConfig(pin, host)); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
	// The right chain for another name, and a certificate that is not for servers.
	if _, err := meet(t, pinnedServer(t, m, host), certs.PinnedConfig(pin, "second.maple.example")); err == nil {
		t.Error("another name: connected")
	}
	bad := signed(t, ca, x509.ExtKeyUsageClientAuth)
	if _, err := meet(t, &tls.Config{Certificates: []tls.Certificate{bad}}, certs.PinnedConfig(pin, host)); err == nil {
		t.Error("a client's certificate: connected")
	}
}

// Outside of a TLS of one's own both the edge and whom the roots trust will do, and nobody else.
func TestEitherPinOrRoots(t *testing.T) {
	dir := localCA(t)
	own, firewall := manager(t, certs.Config{LocalCA: localCA(t)}), manager(t, certs.Config{LocalCA: dir})
	text, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	conf := certs.EitherConfig(own.Pin(host), host, roots)
	for name, m := range map[string]*certs.Manager{"the pinned one": own, "one that the roots trust": firewall} {
		if _, err := meet(t, m.TLSConfig(), conf); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var untrusted *tls.CertificateVerificationError
	if _, err := meet(t, manager(t, certs.Config{LocalCA: localCA(t)}).TLSConfig(), conf); !errors.As(err, &untrusted) {
		t.Errorf("a third one: %v", err)
	}
	if _, err := meet(t, pinnedServer(t, firewall, host), certs.EitherConfig(own.Pin(host), "second.maple.example", roots)); err == nil {
		t.Error("another name: connected")
	}
}

// pinnedServer always shows the certificate of one name.
func pinnedServer(t *testing.T, m *certs.Manager, name string) *tls.Config {
	t.Helper()
	c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{*c}}
}

func TestCAConfigFailsClosed(t *testing.T) {
	for _, data := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if c, err := certs.CAConfig([]byte(data)); err == nil {
			t.Errorf("%q gave %v", data, c)
		}
	}
}

func TestOpenKeyIsRefused(t *testing.T) {
	dir := localCA(t)
	if err := os.Chmod(filepath.Join(dir, certs.CAKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.New(certs.Config{LocalCA: dir, HostAllowed: allowed}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everybody can read: %v", err)
	}
	if _, err := certs.New(certs.Config{LocalCA: t.TempDir(), HostAllowed: allowed}); err == nil {
		t.Error("an empty directory was taken")
	}
}

// TestFilesAreReadAgain replaces a certificate while the manager runs: first by a broken one, then by a good one.
func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	p := certs.Pair{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if _, err := certs.New(certs.Config{Pairs: []certs.Pair{p}, HostAllowed: allowed}); err == nil {
		t.Error("missing files were taken")
	}
	first := selfSigned(t, func(*x509.Certificate) {})
	write(t, p, first)
	m := manager(t, certs.Config{Pairs: []certs.Pair{p}, Poll: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	serves := func() []byte {
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		if err != nil || c == nil {
			t.Fatalf("no certificate: %v", err)
		}
		return c.Certificate[0]
	}
	replace(t, p.CertFile, []byte("broken"))
	for range 20 {
		<-time.After(5 * time.Millisecond)
		if string(serves()) != string(first.Certificate[0]) {
			t.Fatal("the last good certificate is gone")
		}
	}
	second := selfSigned(t, func(*x509.Certificate) {})
	write(t, p, second)
	deadline := time.After(10 * time.Second)
	for string(serves()) != string(second.Certificate[0]) {
		select {
		case <-deadline:
			t.Fatal("the new certificate is not in use")
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestExpiredFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	p := certs.Pair{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	write(t, p, selfSigned(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	if _, err := certs.New(certs.Config{Pairs: []certs.Pair{p}, HostAllowed: allowed}); err == nil {
		t.Error("taken")
	}
}

func selfSigned(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, template := template(t)
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func signed(t *testing.T, ca tls.Certificate, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key, template := template(t)
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.Certificate[0]}, PrivateKey: key}
}

func template(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

func write(t *testing.T, p certs.Pair, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, p.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	replace(t, p.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}

// replace writes a file the way renewal tools do: beside it, then renamed.
func replace(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}
