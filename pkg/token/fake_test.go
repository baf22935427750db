package token

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// keyShelf is a KeyStore in memory, with the rule that one key of a kind is current.
type keyShelf struct {
	mu   sync.Mutex
	keys []Key
	now  func() time.Time
}

func (s *keyShelf) CreateKey(_ context.Context, k Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.keys, func(o Key) bool { return o.Kind == k.Kind && s.now().Before(o.NotAfter) }) {
		return fault.New(fault.Exists, "a key of this kind is current")
	}
	s.keys = append(s.keys, k)
	return nil
}

func (s *keyShelf) RotateKey(_ context.Context, k Key, notAfter, retired time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.keys {
		if o := &s.keys[i]; o.Kind == k.Kind {
			if notAfter.Before(o.NotAfter) {
				o.NotAfter = notAfter
			}
			if retired.Before(o.Retired) {
				o.Retired = retired
			}
		}
	}
	s.keys = append(s.keys, k)
	return nil
}

func (s *keyShelf) Keys(context.Context) ([]Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys), nil
}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newRing(t testing.TB, c *clock) (*Keyring, *keyShelf) {
	t.Helper()
	shelf := &keyShelf{now: c.now}
	ring, err := NewKeyring(t.Context(), shelf, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return ring, shelf
}

// claimsOf returns claims that any of the four kinds accepts, made at now.
func claimsOf(now time.Time) Claims {
	return Claims{
		Issuer: AssertionIssuer, Subject: "usr_1", Audience: []string{AssertionAudience("con_1", 7)}, IssuedAt: now,
		Expires: now.Add(4 * time.Minute), ID: "tok_1", Tenant: "maple", Session: "ses_1", Kind: "user", Methods: []string{"otp"},
		Site: "main", App: "app_1", Connector: "con_1", Generation: 7,
	}
}

func expected() Expect {
	return Expect{Issuer: AssertionIssuer, Audience: AssertionAudience("con_1", 7), Tenant: "maple"}
}

func connectorKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }
