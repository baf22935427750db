package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// ErrEarly is in the chain of the error for a token that is good in every way but issued in the future: by an edge whose clock is
// ahead of this one's.
var ErrEarly = errors.New("token issued in the future")

// ErrExpired is in the chain of the error for a token that is good in every way but its time.
var ErrExpired = errors.New("token expired")

// ErrRetired is in the chain of the error for a token whose key verifies no longer.
var ErrRetired = errors.New("key is retired")

// Aging is a Verifier whose keys may be withdrawn: who remembers that a token held asks it again when the epoch has changed.
type Aging interface {
	Verifier
	Epoch() uint64
}

// Expect is what a verifier's caller knows about the token it should get. Every field is required: an empty one never
// switches its check off, it refuses every token.
type Expect struct {
	Issuer   string
	Audience string
	Tenant   id.Tenant
}

// Verifier checks tokens of one kind. A refusal is fault.Unauthentic with the same words whatever the reason; the
// reason is behind it, for the log.
type Verifier interface {
	Verify(raw string, want Expect, now time.Time) (Claims, error)
}

// publicKey is one key that verifies until it is retired.
type publicKey struct {
	id      string
	key     ed25519.PublicKey
	retired time.Time
}

func (k publicKey) same(o publicKey) bool {
	return k.id == o.id && k.key.Equal(o.key) && k.retired.Equal(o.retired)
}

// keySource looks up a verification key by kind and kid in a set of our own, never by anything else the token says.
type keySource func(kind Kind, kid string) (publicKey, bool)

type verifier struct {
	kind Kind
	keys keySource
}

var _ Verifier = verifier{}

func (v verifier) Verify(raw string, want Expect, now time.Time) (Claims, error) {
	c, err := v.verify(raw, want, now)
	if err != nil {
		return Claims{}, refused(err)
	}
	return c, nil
}

func (v verifier) verify(raw string, want Expect, now time.Time) (Claims, error) {
	if want.Issuer == "" || want.Audience == "" || want.Tenant == "" {
		return Claims{}, errors.New("nothing is expected of the token")
	}
	var b body
	err := check(raw, v.kind, &b, v.keys, now, jwt.WithIssuer(want.Issuer), jwt.WithAudience(want.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return Claims{}, err
	}
	if err := b.complete(v.kind); err != nil {
		return Claims{}, err
	}
	if b.Tenant != want.Tenant {
		return Claims{}, errors.New("another tenant's token")
	}
	return b.claims(), nil
}

// check is the one way a JWT is read: screened, algorithm pinned, key from our own set, signature, then the checks of rules.
func check(raw string, kind Kind, into jwt.Claims, keys keySource, now time.Time, rules ...jwt.ParserOption) error {
	h, err := screen(raw, kind)
	if err != nil {
		return err
	}
	key, ok := keys(kind, h.KeyID)
	switch {
	case !ok:
		return errors.New("kid is not a key of this kind")
	case !now.Before(key.retired):
		return ErrRetired
	}
	parser := jwt.NewParser(append(rules, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithStrictDecoding(),
		jwt.WithLeeway(Leeway), jwt.WithTimeFunc(func() time.Time { return now }))...)
	_, err = parser.ParseWithClaims(raw, into, func(*jwt.Token) (any, error) { return key.key, nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	if errors.Is(err, jwt.ErrTokenUsedBeforeIssued) {
		return fmt.Errorf("%w: %w", ErrEarly, err)
	}
	return err
}

func refused(cause error) error {
	return fault.New(fault.Unauthentic, "this token is not valid here").Because(cause)
}
