package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestEdgesThatStartTogetherShareKeys(t *testing.T) {
	c := newClock()
	shelf := &keyShelf{now: c.now}
	rings := make([]*Keyring, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			ring, err := NewKeyring(t.Context(), shelf, c.now)
			if err != nil {
				t.Error(err)
			}
			rings[i] = ring
		})
	}
	wg.Wait()
	if len(shelf.keys) != len(signed()) {
		t.Fatalf("%d keys, want one of each of %d kinds", len(shelf.keys), len(signed()))
	}
	for _, ring := range rings {
		if !ring.RootPublic().Equal(rings[0].RootPublic()) {
			t.Error("edges differ in the root key")
		}
	}
}

// Over a rotation no token that was minted is refused before its end, and a connector that is only told afterwards still
// verifies what is signed in the meantime.
func TestRotationLosesNoToken(t *testing.T) {
	c := newClock()
	ring, shelf := newRing(t, c)
	pinned := NewPinned(ring.RootPublic())
	learn := func() {
		t.Helper()
		sets, err := ring.KeySets(c.now())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sets {
			if err := pinned.Update(s, c.now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	mint := func() string {
		t.Helper()
		raw, err := ring.Mint(Assertion, claimsOf(c.now()))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := func(when, raw string) {
		t.Helper()
		if _, err := pinned.Verifier(Assertion).Verify(raw, expected(), c.now()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	learn()
	c.advance(keyLife + time.Minute)
	good("overdue", mint())
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(shelf.keys); n != 2*len(signed())-1 {
		t.Fatalf("%d keys after rotation", n)
	}
	old := mint()
	good("before the successor is known", old)
	learn()
	c.advance(activation + time.Second)
	good("signed by the successor", mint())
	good("signed before", old)
}

func TestRetiredKeyVerifiesNothing(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	signer, _ := ring.held.Load().pick(Access, c.now())
	c.advance(keyLife + 2*overdue)
	raw, err := sign(Access, signer.id, signer.private, bodyOf(claimsOf(c.now())))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Verifier(Access).Verify(raw, expected(), c.now()); err == nil {
		t.Error("a retired key still verifies")
	}
	if _, err := ring.Mint(Access, claimsOf(c.now())); err == nil {
		t.Error("a key signs long after its time")
	}
}

func TestPinnedTrustsItsRootAlone(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	other, _ := newRing(t, c)
	pinned := NewPinned(ring.RootPublic())
	foreign, _ := other.KeySets(c.now())
	if err := pinned.Update(foreign[0], c.now()); err == nil {
		t.Error("a key set of another root is taken")
	}
	first, _ := ring.KeySets(c.now())
	c.advance(10 * time.Second)
	second, _ := ring.KeySets(c.now())
	if err := pinned.Update(second[0], c.now()); err != nil {
		t.Fatal(err)
	}
	if err := pinned.Update(first[0], c.now()); err == nil {
		t.Error("an older key set replaces a newer one")
	}
	if err := pinned.Update(second[0], c.now().Add(2*keySetLife)); err == nil {
		t.Error("a stale key set is taken")
	}
	for name, set := range map[string]*keySet{
		"kind of a browser": {Kind: Access, Keys: []setKey{{ID: "a", X: "AA", Retired: 1}}},
		"short key":         {Kind: Assertion, Keys: []setKey{{ID: "a", X: "AA", Retired: 1}}},
		"no keys":           {Kind: Assertion},
	} {
		set.RegisteredClaims = jwt.RegisteredClaims{
			Issuer: rootIssuer, Audience: jwt.ClaimStrings{connectorAudience},
			IssuedAt: jwt.NewNumericDate(c.now()), ExpiresAt: jwt.NewNumericDate(c.now().Add(time.Minute)),
		}
		raw, err := ring.sign(KeySet, Root, set)
		if err != nil {
			t.Fatal(err)
		}
		if err := pinned.Update(raw, c.now()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := NewPinned(nil).Update(second[0], c.now()); err == nil {
		t.Error("no root key trusts everything")
	}
}

func TestProofsBindNonceAndConnection(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	pinned := NewPinned(ring.RootPublic())
	sets, _ := ring.KeySets(c.now())
	for _, s := range sets {
		if err := pinned.Update(s, c.now()); err != nil {
			t.Fatal(err)
		}
	}
	key := connectorKey()
	public := key.Public().(ed25519.PublicKey)
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	link, err := SignLinkProof(key, "con_1", a, b)
	if err != nil {
		t.Fatal(err)
	}
	edge, err := ring.MintEdgeProof(a, b)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, _ := ed25519.GenerateKey(nil)
	for _, row := range []struct {
		name            string
		nonce, exporter []byte
		good            bool
	}{{"its own", a, b, true}, {"another nonce", b, b, false}, {"another connection", a, a, false}, {"none", nil, nil, false}} {
		if err := VerifyLinkProof(public, link, "con_1", row.nonce, row.exporter); (err == nil) != row.good {
			t.Errorf("link, %s: %v", row.name, err)
		}
		if err := pinned.VerifyEdgeProof(edge, row.nonce, row.exporter, c.now()); (err == nil) != row.good {
			t.Errorf("edge, %s: %v", row.name, err)
		}
	}
	if VerifyLinkProof(public, link, "con_2", a, b) == nil {
		t.Error("one connector's proof serves another")
	}
	if VerifyLinkProof(stranger.Public().(ed25519.PublicKey), link, "con_1", a, b) == nil {
		t.Error("another key's proof is taken")
	}
	if VerifyLinkProof(nil, link, "con_1", a, b) == nil {
		t.Error("no key takes a proof")
	}
	if _, err := SignLinkProof(key, "con_1", a[:8], b); err == nil {
		t.Error("a short nonce is signed")
	}
}

func TestJWKSListsPublicHalves(t *testing.T) {
	c := newClock()
	ring, shelf := newRing(t, c)
	text := ring.JWKS(Origin, Service)
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 || set.Keys[0]["kty"] != "OKP" || set.Keys[0]["alg"] != "EdDSA" {
		t.Errorf("got %s", text)
	}
	if slices.ContainsFunc(shelf.keys, func(k Key) bool { return bytes.Contains(text, k.Seed) }) {
		t.Error("a private key is published")
	}
}
