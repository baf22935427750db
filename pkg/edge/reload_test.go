package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRenewedCertificatesAreServedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	c := prepared(t)
	c.Certificates = []Certificate{{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	issue(t, c.Certificates[0], 1)
	e := running(t, c)
	serial := func() int64 {
		cert, err := handshake(t, e, c.Host)
		if err != nil {
			t.Fatal(err)
		}
		return cert.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("certificate %d", got)
	}
	issue(t, c.Certificates[0], 2)
	eventually(t, "the renewed certificate", func() bool { return serial() == 2 })

	// Half a renewal, as a script leaves it that is stopped: the last good one goes on.
	if err := os.WriteFile(c.Certificates[0].Key, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure in the metrics", func() bool {
		families, err := e.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sallyport_certificates_reload_failures_total" {
				return f.GetMetric()[0].GetCounter().GetValue() > 0
			}
		}
		return false
	})
	if got := serial(); got != 2 {
		t.Errorf("certificate %d", got)
	}
}

// issue writes a certificate for the edge's name that signs itself.
func issue(t *testing.T, pair Certificate, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"edge.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{pair.Cert: {Type: "CERTIFICATE", Bytes: der}, pair.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
