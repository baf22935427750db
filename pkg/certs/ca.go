package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// The files of a local CA.
const (
	CAFile    = "ca.pem" // 0644: browsers and connectors are given it
	CAKeyFile = "ca.key" // 0600
)

// backdate is how long before now a certificate of ours begins, for clients whose clocks are behind.
const backdate = 24 * time.Hour

const caYears = 10

// InitLocalCA makes a CA in dir (created 0700 if missing): ECDSA P-256, 10 years, no CA below it, server certificates only.
// It carries no name constraints, because the clinics' names are not known yet when it is made; who installs it in a
// browser trusts this edge for every name, which is why it is for trying out. An existing CA is never replaced
// (fault.Exists).
func InitLocalCA(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	now := time.Now()
	der, err := selfSign(key, now)
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	// The key first: without it the certificate is worth nothing, and O_EXCL lets exactly one of two callers go on.
	if err := createPEM(filepath.Join(dir, CAKeyFile), "PRIVATE KEY", pkcs8, 0o600); err != nil {
		return err
	}
	return createPEM(filepath.Join(dir, CAFile), "CERTIFICATE", der, 0o644)
}

func selfSign(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Sallyport"}, CommonName: "Sallyport local CA " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// serial is 127 random bits: positive, and within the 20 octets of RFC 5280 §4.1.2.2.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func createPEM(name, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Exists, "there is a local CA already: %s", name)
	}
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	return nil
}

// authority is an opened local CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openCA reads a local CA and refuses one that cannot sign now, or whose key others can read.
func openCA(dir string, now time.Time) (*authority, error) {
	cert, err := readCertificate(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	key, err := readKey(filepath.Join(dir, CAKeyFile))
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	switch {
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("local CA: %s and %s do not belong together", CAFile, CAKeyFile)
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("local CA: %s may not sign certificates", CAFile)
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("local CA: it ended on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert, key}, nil
}

func readCertificate(name string) (*x509.Certificate, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no PEM certificate", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

func readKey(name string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %#o lets others read the key; chmod 600", name, info.Mode().Perm())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: no PEM private key", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a PKCS #8 key", name) // the parser's words could quote the key
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", name)
	}
	return ec, nil
}
