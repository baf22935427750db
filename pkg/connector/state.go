package connector

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Names in the state directory.
const (
	identityFile = "identity.json"
	keyFile      = "key.pem"
)

// Identity is what enrolment taught this connector; nothing in it is secret. The key lies beside it.
type Identity struct {
	Connector id.Connector `json:"connector"`
	Tenant    id.Tenant    `json:"tenant"`
	Site      id.Site      `json:"site"`
	// Edge is the edge's URL, https://host[:port].
	Edge string `json:"edge"`
	// RootKey signs the edge's key sets; no other edge, and no other key, is believed.
	RootKey ed25519.PublicKey `json:"root_key"`
	// CAPin names the CA of the edge's certificate; CAPEM holds trusted CAs in PEM. With neither the system's roots count.
	CAPin string `json:"ca_pin,omitempty"`
	CAPEM string `json:"ca_pem,omitempty"`
}

// Target is where to dial, and how to know the edge's certificate.
func (i Identity) Target() (tunnel.Target, error) {
	edge, err := enroll.EdgeURL(i.Edge)
	if err != nil {
		return tunnel.Target{}, err
	}
	u, err := url.Parse(edge)
	if err != nil {
		return tunnel.Target{}, fmt.Errorf("edge URL: %w", err)
	}
	t := tunnel.Target{URL: u, Known: new(tunnel.Addresses), TLS: &tls.Config{MinVersion: tls.VersionTLS13, ServerName: u.Hostname()}}
	switch {
	case i.CAPin != "":
		if err := certs.CheckPin(i.CAPin); err != nil {
			return tunnel.Target{}, err
		}
		t.TLS = certs.PinnedConfig(i.CAPin, u.Hostname())
	case i.CAPEM != "":
		if t.TLS, err = certs.CAConfig([]byte(i.CAPEM)); err != nil {
			return tunnel.Target{}, err
		}
	}
	return t, nil
}

func (i Identity) check() error {
	if i.Connector == "" || i.Tenant == "" || i.Site == "" || len(i.RootKey) != ed25519.PublicKeySize {
		return errors.New("incomplete")
	}
	_, err := i.Target()
	return err
}

// LoadState reads identity and key. A key that others may read is refused, as is a directory without one.
func LoadState(dir string) (Identity, ed25519.PrivateKey, error) {
	i, err := ReadIdentity(dir)
	if err != nil {
		return Identity{}, nil, err
	}
	key, err := loadKey(dir)
	if err != nil {
		return Identity{}, nil, err
	}
	return i, key, nil
}

// ReadIdentity reads the identity alone.
func ReadIdentity(dir string) (Identity, error) {
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("%s holds no enrolment: run the line that `edge connector invite` prints", dir)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("state: %w", err)
	}
	var i Identity
	if err := json.Unmarshal(text, &i); err != nil {
		return Identity{}, fmt.Errorf("state: %s: %w", identityFile, err)
	}
	if err := i.check(); err != nil {
		return Identity{}, fmt.Errorf("state: %s: %w", identityFile, err)
	}
	return i, nil
}

func loadKey(dir string) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("connector key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("connector key %s: mode %v lets others at it; chmod 600, and enrol anew if others were on this machine", path, info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("connector key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("connector key %s: not a PEM private key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("connector key %s: damaged", path) // the cause could quote the key
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("connector key %s: not an Ed25519 key", path)
	}
	return key, nil
}

// makeKey returns the key in dir, made now if there is none. It never leaves the directory.
func makeKey(dir string) (ed25519.PrivateKey, error) {
	if key, err := loadKey(dir); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("connector key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("connector key: %w", err)
	}
	return key, writeFile(dir, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// writeFile puts a file in place whole, mode 0600, or not at all.
func writeFile(dir, name string, text []byte) error {
	f, err := os.CreateTemp(dir, "."+name+"-*") // 0600 from the start
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, adopt(f, dir), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("state: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
