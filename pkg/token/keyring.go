package token

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// How long keys of the edge live. A key signs for keyLife; its successor is made when that is over, and signs only once it
// has had activation to reach every edge and connector. The old key signs on until then (overdue at most), and verifies
// until the last token that it may have signed has ended.
const (
	keyLife    = 90 * 24 * time.Hour
	rootLife   = 100 * 365 * 24 * time.Hour // pinned at enrolment: a new root means enrolling again
	overdue    = 24 * time.Hour
	activation = time.Minute
)

// Keyring holds the edge's signing keys: the root key and, for each kind, the keys that sign it now or signed it lately.
// It is safe for concurrent use.
type Keyring struct {
	store KeyStore
	now   func() time.Time

	reload sync.Mutex // one Reload at a time
	held   atomic.Pointer[keys]
}

// keys is an immutable picture of the key store.
type keys struct {
	byKind map[Kind][]signer
	public map[Kind]map[string]publicKey
}

type signer struct {
	publicKey
	private  ed25519.PrivateKey
	created  time.Time
	notAfter time.Time
	// learned is when this edge learned of a key that another or it has made since it started; zero for those that it found then.
	learned time.Time
}

// ready is from when on the key signs: every verifier has had time to learn it. By this edge's own clock where that is possible, for
// those of others may be minutes off.
func (s *signer) ready() time.Time {
	if !s.learned.IsZero() {
		return s.learned.Add(activation)
	}
	return s.created.Add(activation)
}

// signed lists the kinds that have keys of their own at the edge. LinkProof is signed by connectors, KeySet by the root.
func signed() []Kind { return []Kind{Root, Access, Service, Assertion, Origin, EdgeProof} }

// NewKeyring loads the keys and makes those that are missing; of several edges that start at once, one makes each.
func NewKeyring(ctx context.Context, store KeyStore, now func() time.Time) (*Keyring, error) {
	k := &Keyring{store: store, now: now}
	if err := k.Reload(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the keys again and makes a successor for each key whose time to sign is over. Call it on change.Key and every
// hour or so; on an error the keys held before stay in use.
func (k *Keyring) Reload(ctx context.Context) error {
	k.reload.Lock()
	defer k.reload.Unlock()
	stored, err := k.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	made, err := k.makeMissing(ctx, stored)
	if err != nil {
		return err
	}
	if made {
		if stored, err = k.store.Keys(ctx); err != nil {
			return fmt.Errorf("signing keys: %w", err)
		}
	}
	held, err := build(stored)
	if err != nil {
		return err
	}
	if before := k.held.Load(); before != nil {
		held.learn(before, k.now())
	}
	k.held.Store(held)
	return nil
}

func (k *Keyring) makeMissing(ctx context.Context, stored []Key) (made bool, err error) {
	now := k.now()
	for _, kind := range signed() {
		current := slices.ContainsFunc(stored, func(s Key) bool { return s.Kind == kind && now.Before(s.NotAfter) })
		if current {
			continue
		}
		// fault.Exists: another edge was first, and its key is read next.
		if err := k.store.CreateKey(ctx, newKey(kind, now)); err != nil && !fault.Is(err, fault.Exists) {
			return made, fmt.Errorf("signing key %s: %w", kind, err)
		}
		made = true
	}
	return made, nil
}

func newKey(kind Kind, now time.Time) Key {
	seed := make([]byte, ed25519.SeedSize)
	// crypto/rand.Read never fails; it ends the process instead.
	_, _ = rand.Read(seed)
	lives := keyLife
	if kind == Root {
		lives = rootLife
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	return Key{
		Kind: kind, ID: keyID(public), Seed: seed, Created: now, NotAfter: now.Add(lives),
		Retired: now.Add(lives + overdue + life(kind) + 2*Leeway),
	}
}

// keyID names a key by its own bytes, so that two keys can never share a name.
func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func build(stored []Key) (*keys, error) {
	held := &keys{byKind: map[Kind][]signer{}, public: map[Kind]map[string]publicKey{}}
	for _, s := range stored {
		if len(s.Seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("signing key %s: seed of %d bytes", s.ID, len(s.Seed))
		}
		private := ed25519.NewKeyFromSeed(s.Seed)
		public := publicKey{id: s.ID, key: private.Public().(ed25519.PublicKey), retired: s.Retired}
		held.byKind[s.Kind] = append(held.byKind[s.Kind],
			signer{publicKey: public, private: private, created: s.Created, notAfter: s.NotAfter})
		if held.public[s.Kind] == nil {
			held.public[s.Kind] = map[string]publicKey{}
		}
		held.public[s.Kind][s.ID] = public
	}
	for _, list := range held.byKind {
		slices.Reverse(list) // newest first
	}
	return held, nil
}

// learn notes which keys were not there before.
func (k *keys) learn(before *keys, now time.Time) {
	for kind, list := range k.byKind {
		for i := range list {
			old := slices.IndexFunc(before.byKind[kind], func(s signer) bool { return s.id == list[i].id })
			if old < 0 {
				list[i].learned = now
			} else {
				list[i].learned = before.byKind[kind][old].learned
			}
		}
	}
}

// pick chooses the key that signs a kind at now: the newest that every verifier has had time to learn.
func (k *keys) pick(kind Kind, now time.Time) (signer, error) {
	var fresh *signer
	for i := range k.byKind[kind] {
		s := &k.byKind[kind][i]
		switch {
		case !now.Before(s.notAfter.Add(overdue)):
			continue
		case now.Before(s.ready()):
			if fresh == nil {
				fresh = s
			}
		default:
			return *s, nil
		}
	}
	if fresh != nil {
		return *fresh, nil // the first key of its kind: there is nobody yet who knows another
	}
	return signer{}, fault.New(fault.Unavailable, "no signing key").Because(fmt.Errorf("kind %s", kind))
}

// Mint signs a token of a kind. IssuedAt defaults to now. Claims that the kind requires and that are missing, or a life longer
// than the kind may have, are errors of the program.
func (k *Keyring) Mint(kind Kind, c Claims) (string, error) {
	if c.IssuedAt.IsZero() {
		c.IssuedAt = k.now()
	}
	b := bodyOf(c)
	if err := b.complete(kind); err != nil {
		return "", fmt.Errorf("mint %s: %w", kind, err)
	}
	return k.sign(kind, kind, b)
}

// sign signs claims as one kind with the key of another: key sets are signed by the root.
func (k *Keyring) sign(kind, with Kind, claims jwt.Claims) (string, error) {
	s, err := k.held.Load().pick(with, k.now())
	if err != nil {
		return "", err
	}
	return sign(kind, s.id, s.private, claims)
}

func sign(kind Kind, kid string, key ed25519.PrivateKey, claims jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = string(kind), kid
	raw, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind, err)
	}
	if len(raw) > MaxBytes {
		return "", fmt.Errorf("sign %s: %d bytes, at most %d", kind, len(raw), MaxBytes)
	}
	return raw, nil
}

// Verifier checks tokens of the kind with the keys that the ring holds at the time of each call. Kinds that carry no Claims
// have functions of their own; for those this verifier refuses everything.
func (k *Keyring) Verifier(kind Kind) Verifier {
	return verifier{kind: kind, keys: func(kind Kind, kid string) (publicKey, bool) {
		key, ok := k.held.Load().public[kind][kid]
		return key, ok
	}}
}

// RootPublic is the key that connectors pin at enrolment.
func (k *Keyring) RootPublic() ed25519.PublicKey {
	root := k.held.Load().byKind[Root]
	return root[len(root)-1].key // the oldest: a root is never replaced behind the connectors' backs
}
