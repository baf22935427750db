// Package secret owns values that must not lie open: Redacted keeps them out of logs and errors, Sealer keeps them
// unreadable in the store under master.key, and Hash is how a secret that only has to be recognised is kept. It decides
// about nothing; what must be sealed is decided where it is stored.
package secret

import (
	"crypto/sha256"
	"encoding/base64"
)

// Redacted is a secret that prints as "[redacted]" through fmt, encoding/json, YAML and zap. Reveal is the one way in.
type Redacted struct{ value string }

// Redact wraps a secret.
func Redact(value string) Redacted { return Redacted{value} }

// Reveal returns the secret itself.
func (r Redacted) Reveal() string { return r.value }

// String implements fmt.Stringer; GoString covers %#v.
func (Redacted) String() string               { return "[redacted]" }
func (Redacted) GoString() string             { return "[redacted]" }
func (Redacted) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// UnmarshalText lets configuration files carry the secret in.
func (r *Redacted) UnmarshalText(text []byte) error {
	r.value = string(text)
	return nil
}

// Hash is how the store keeps a secret of at least 128 random bits that it only has to recognise: SHA-256, base64url.
// Codes that people type are too short for it and are kept with a keyed hash instead (Sealer.MAC).
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
