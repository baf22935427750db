package connector

import (
	"context"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/token"
)

// keyShelf is a token.KeyStore in memory.
type keyShelf struct{ keys []token.Key }

func (s *keyShelf) CreateKey(_ context.Context, k token.Key) error {
	s.keys = append(s.keys, k)
	return nil
}

func (s *keyShelf) RotateKey(ctx context.Context, k token.Key, notAfter, retired time.Time) error {
	for i := range s.keys {
		if s.keys[i].Kind == k.Kind {
			s.keys[i].NotAfter, s.keys[i].Retired = notAfter, retired
		}
	}
	return s.CreateKey(ctx, k)
}

func (s *keyShelf) Keys(context.Context) ([]token.Key, error) { return s.keys, nil }

// An assertion that was verified a moment ago does not outlive the key that signed it, when that is withdrawn.
func TestWithdrawnKeyOpensNothing(t *testing.T) {
	ring, err := token.NewKeyring(t.Context(), &keyShelf{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	pinned := token.NewPinned(ring.RootPublic())
	tell := func() {
		t.Helper()
		sets, err := ring.KeySets(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sets {
			if err := pinned.Update(s, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	mint := func() string {
		t.Helper()
		raw, err := ring.Mint(token.Assertion, token.Claims{
			Issuer: token.AssertionIssuer, Subject: "usr_1", Audience: []string{token.AssertionAudience("con_1", 7)},
			Expires: time.Now().Add(4 * time.Minute), Tenant: "maple", Session: "ses_1", Kind: "user", Methods: []string{"otp"},
			Site: "main", App: "app_1", Connector: "con_1", Generation: 7,
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	tell()
	a := newAssertions(pinned.Verifier(token.Assertion), time.Now)
	want := token.Expect{Issuer: token.AssertionIssuer, Audience: token.AssertionAudience("con_1", 7), Tenant: "maple"}
	old := mint()
	for range 2 {
		if _, err := a.verify(old, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := ring.Rotate(t.Context(), true, token.Assertion); err != nil {
		t.Fatal(err)
	}
	tell()
	if _, err := a.verify(old, want); err == nil {
		t.Error("it is remembered as good")
	}
	if _, err := a.verify(mint(), want); err != nil {
		t.Error(err)
	}
}
