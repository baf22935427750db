package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of a key set: how long it may travel, and how many keys of one kind it lists.
const (
	keySetLife = time.Hour
	maxKeys    = 16
)

// ErrOlder is in the chain of the error for a good key set that is older than the one held.
var ErrOlder = errors.New("older than the key set held")

// Constant claims of key sets and edge proofs; what binds them to one edge is the root key.
const (
	rootIssuer        = "sallyport-root"
	connectorAudience = "sallyport-connector"
	edgeAudience      = "sallyport-edge"
)

// keySet is the claims of a KeySet token: the public keys of one kind (RFC 8037 §2 for x).
type keySet struct {
	jwt.RegisteredClaims
	Kind Kind     `json:"kind"`
	Keys []setKey `json:"keys"`
}

type setKey struct {
	ID      string `json:"kid"`
	X       string `json:"x"`
	Retired int64  `json:"exp"`
}

// jwk is one key of a JWK set (RFC 7517 §4, RFC 8037 §2).
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// KeySets returns what a connector must know, each set signed by the root key: the keys of Assertion and of EdgeProof.
func (k *Keyring) KeySets(now time.Time) ([]string, error) {
	held := k.held.Load()
	var sets []string
	for _, kind := range []Kind{Assertion, EdgeProof} {
		set := &keySet{Kind: kind, Keys: listed(held.byKind[kind], now), RegisteredClaims: jwt.RegisteredClaims{
			Issuer: rootIssuer, Audience: jwt.ClaimStrings{connectorAudience},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(keySetLife)),
		}}
		raw, err := k.sign(KeySet, Root, set)
		if err != nil {
			return nil, err
		}
		sets = append(sets, raw)
	}
	return sets, nil
}

func listed(signers []signer, now time.Time) []setKey {
	var out []setKey
	for _, s := range signers {
		if now.Before(s.retired) && len(out) < maxKeys {
			out = append(out, setKey{ID: s.id, X: base64.RawURLEncoding.EncodeToString(s.key), Retired: s.retired.Unix()})
		}
	}
	return out
}

// JWKS is the JWK set of the kinds, for those who verify Origin or Service tokens themselves. Retired keys are left out.
func (k *Keyring) JWKS(kinds ...Kind) []byte {
	held, now := k.held.Load(), k.now()
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, kind := range kinds {
		for _, s := range listed(held.byKind[kind], now) {
			set.Keys = append(set.Keys, jwk{KeyType: "OKP", Curve: "Ed25519", X: s.X, ID: s.ID, Use: "sig", Algorithm: "EdDSA"})
		}
	}
	text, _ := json.Marshal(set) // strings only: cannot fail
	return text
}

// Pinned is a connector's view of its edge's keys: it trusts key sets that the root key signed, and nothing else. It is
// safe for concurrent use.
type Pinned struct {
	root ed25519.PublicKey

	mu    sync.RWMutex // guards all below
	sets  map[Kind]pinnedSet
	epoch uint64 // counts the changes of keys
}

type pinnedSet struct {
	issued time.Time
	keys   map[string]publicKey
}

// NewPinned trusts root, the key that enrolment handed over.
func NewPinned(root ed25519.PublicKey) *Pinned {
	return &Pinned{root: slices.Clone(root), sets: map[Kind]pinnedSet{}}
}

// Update takes a key set in place of the one of its kind. A set older than the one held is refused, so that a recorded set
// brings no withdrawn key back. now is the edge's clock.
func (p *Pinned) Update(raw string, now time.Time) error {
	if len(p.root) != ed25519.PublicKeySize {
		return refused(errors.New("no root key"))
	}
	rootKey := func(kind Kind, kid string) (publicKey, bool) {
		return publicKey{key: p.root, retired: now.Add(time.Second)}, kind == KeySet && kid == keyID(p.root)
	}
	var set keySet
	err := check(raw, KeySet, &set, rootKey, now, jwt.WithIssuer(rootIssuer), jwt.WithAudience(connectorAudience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return refused(err)
	}
	fresh, err := set.pinned()
	if err != nil {
		return refused(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	held, ok := p.sets[set.Kind]
	if ok && fresh.issued.Before(held.issued) {
		return refused(ErrOlder)
	}
	if !maps.EqualFunc(held.keys, fresh.keys, publicKey.same) {
		p.epoch++
	}
	p.sets[set.Kind] = fresh
	return nil
}

func (s *keySet) pinned() (pinnedSet, error) {
	if s.Kind != Assertion && s.Kind != EdgeProof {
		return pinnedSet{}, fmt.Errorf("key set of kind %q", s.Kind)
	}
	if s.IssuedAt == nil || len(s.Keys) == 0 || len(s.Keys) > maxKeys {
		return pinnedSet{}, errors.New("no iat, or no or too many keys")
	}
	out := pinnedSet{issued: s.IssuedAt.Time, keys: make(map[string]publicKey, len(s.Keys))}
	for _, k := range s.Keys {
		x, err := base64.RawURLEncoding.Strict().DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize || k.Retired <= 0 || k.Retired > lastSecond {
			return pinnedSet{}, errors.New("malformed key")
		}
		out.keys[k.ID] = publicKey{id: k.ID, key: x, retired: time.Unix(k.Retired, 0)}
	}
	return out, nil
}

func (p *Pinned) key(kind Kind, kid string) (publicKey, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	key, ok := p.sets[kind].keys[kid]
	return key, ok
}

// Verifier checks tokens of the kind with the sets held at the time of each call; connectors hold Assertion.
func (p *Pinned) Verifier(kind Kind) Verifier {
	return pinnedVerifier{verifier{kind: kind, keys: p.key}, p}
}

// pinnedVerifier is a verifier that knows when its keys change.
type pinnedVerifier struct {
	verifier
	pinned *Pinned
}

var _ Aging = pinnedVerifier{}

// Epoch implements Aging.
func (v pinnedVerifier) Epoch() uint64 {
	v.pinned.mu.RLock()
	defer v.pinned.mu.RUnlock()
	return v.pinned.epoch
}
