package secret

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// masterSize is the length of the root secret, bytes.
const masterSize = 32

// sealVersion is the first byte of every sealed value, so that another cipher can follow.
const sealVersion = 1

// ErrSealed says that a sealed value was made under another key or purpose, or was altered.
var ErrSealed = errors.New("secret: sealed value does not open: another master.key, another purpose, or altered")

// Sealer seals values under keys derived from master.key, one key for each purpose (HKDF, RFC 5869). A purpose begins
// with the tenant where the value belongs to one, so that a value moved to another tenant's row does not open.
// It is safe for concurrent use.
type Sealer struct {
	master []byte
	// Keys are derived once for each purpose: every recorded path is sealed. There are as many as tenants times uses.
	ciphers sync.Map // purpose → cipher.AEAD
}

// NewSealer takes the 32 bytes of master.key.
func NewSealer(master []byte) (*Sealer, error) {
	if len(master) != masterSize {
		return nil, fmt.Errorf("master key: %d bytes, want %d", len(master), masterSize)
	}
	return &Sealer{master: append([]byte(nil), master...)}, nil
}

// LoadMaster reads master.key: base64 text, mode 0600 or stricter. A file that others can read is refused.
func LoadMaster(path string) (*Sealer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s: mode %04o lets others read it; chmod 600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	master, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("master key %s: not base64: the file is damaged; restore it from the back-up", path)
	}
	return NewSealer(master)
}

// CreateMaster writes a new master.key (0600). It never overwrites one: everything sealed would be lost.
func CreateMaster(path string) error {
	master := make([]byte, masterSize)
	if _, err := rand.Read(master); err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("master key %s: exists already, and what it sealed would be lost: left as it is", path)
	}
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(master))
	return errors.Join(err, f.Sync(), f.Close())
}

// Seal encrypts plain for purpose (XChaCha20-Poly1305 with a random nonce).
func (s *Sealer) Seal(purpose string, plain []byte) ([]byte, error) {
	aead, err := s.aead(purpose)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = sealVersion
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(out, out[1:], plain, []byte(purpose)), nil
}

// Open decrypts what Seal made for the same purpose. Its error is ErrSealed, whatever the reason.
func (s *Sealer) Open(purpose string, sealed []byte) ([]byte, error) {
	aead, err := s.aead(purpose)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 1+aead.NonceSize() || sealed[0] != sealVersion {
		return nil, ErrSealed
	}
	nonce, body := sealed[1:1+aead.NonceSize()], sealed[1+aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, body, []byte(purpose))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// MAC is a keyed hash for purpose: for values that are too short to be hashed alone (codes that people type) and for
// look-up keys that must tell nothing (e-mail addresses).
func (s *Sealer) MAC(purpose string, value []byte) ([]byte, error) {
	key, err := s.derive("mac/" + purpose)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write(value)
	return h.Sum(nil), nil
}

func (s *Sealer) aead(purpose string) (cipher.AEAD, error) {
	if made, ok := s.ciphers.Load(purpose); ok {
		return made.(cipher.AEAD), nil
	}
	key, err := s.derive("seal/" + purpose)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	s.ciphers.Store(purpose, aead)
	return aead, nil
}

func (s *Sealer) derive(info string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, s.master, nil, "sallyport/1/"+info, masterSize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
