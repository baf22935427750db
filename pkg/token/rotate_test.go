package token

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// pair is two edges on one store and a connector that has a link to each, and is told of keys only where the test says so.
type pair struct {
	clock  *clock
	a, b   *Keyring
	pinned *Pinned
}

func newPair(t *testing.T) *pair {
	t.Helper()
	c := newClock()
	a, shelf := newRing(t, c)
	b, err := NewKeyring(t.Context(), shelf, c.now)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{clock: c, a: a, b: b, pinned: NewPinned(a.RootPublic())}
	p.tell(t, a)
	return p
}

func (p *pair) tell(t *testing.T, from *Keyring) {
	t.Helper()
	sets, err := from.KeySets(p.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		if err := p.pinned.Update(s, p.clock.now()); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *pair) mint(t *testing.T, by *Keyring) string {
	t.Helper()
	raw, err := by.Mint(Assertion, claimsOf(p.clock.now()))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (p *pair) holds(raw string) error {
	_, err := p.pinned.Verifier(Assertion).Verify(raw, expected(), p.clock.now())
	return err
}

// With overlap nothing is refused at any moment, whoever learns of the new key when.
func TestRotationWithOverlapAcrossEdges(t *testing.T) {
	p := newPair(t)
	before := p.mint(t, p.b)
	p.clock.advance(-10 * time.Minute) // which of two keys is newer is the store's to say
	if err := p.a.Rotate(t.Context(), false, Assertion); err != nil {
		t.Fatal(err)
	}
	good := func(when string, tokens ...string) {
		t.Helper()
		for _, raw := range tokens {
			if err := p.holds(raw); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	p.clock.advance(10 * time.Minute)
	good("before anybody was told", before, p.mint(t, p.b))
	p.clock.advance(30 * time.Second)
	if err := p.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.tell(t, p.b)
	good("told by the other edge", before, p.mint(t, p.a), p.mint(t, p.b))
	p.clock.advance(2 * time.Minute)
	after := p.mint(t, p.a)
	good("once the new key signs", before, after, p.mint(t, p.b))
	if kidOf(t, after) == kidOf(t, before) {
		t.Error("the old key still signs")
	}
	if kidOf(t, p.mint(t, p.b)) != kidOf(t, after) {
		t.Error("the edges sign with different keys")
	}
}

// In an emergency the old key is worth nothing wherever it is known, at once, and by clocks that are ten minutes behind.
func TestEmergencyWithdrawsTheOldKey(t *testing.T) {
	p := newPair(t)
	before := p.mint(t, p.b)
	epoch := p.pinned.Verifier(Assertion).(Aging).Epoch()
	if err := p.a.Rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	after := p.mint(t, p.a)
	if err := p.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := p.clock.now().Add(-10 * time.Minute)
	for name, ring := range map[string]*Keyring{"here": p.a, "there": p.b} {
		if _, err := ring.Verifier(Assertion).Verify(before, expected(), late); err == nil {
			t.Errorf("%s: what the old key signed still holds", name)
		}
		if _, err := ring.Verifier(Assertion).Verify(after, expected(), p.clock.now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.tell(t, p.b)
	if err := p.holds(before); err == nil {
		t.Error("the connector still takes the old key")
	}
	if err := errors.Join(p.holds(after), p.holds(p.mint(t, p.b))); err != nil {
		t.Error(err)
	}
	if p.pinned.Verifier(Assertion).(Aging).Epoch() == epoch {
		t.Error("whoever remembers what held is not told")
	}
	_, err := p.a.Verifier(Access).Verify(accessBefore(t, p), expected(), p.clock.now())
	if err != nil {
		t.Error(err)
	}
}

func accessBefore(t *testing.T, p *pair) string {
	t.Helper()
	raw, err := p.b.Mint(Access, claimsOf(p.clock.now()))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestWhatIsNotRotated(t *testing.T) {
	p := newPair(t)
	for _, kind := range []Kind{Root, LinkProof, KeySet, "rubbish", ""} {
		if err := p.a.Rotate(t.Context(), false, kind); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", kind, err)
		}
	}
	var err error
	for range maxKeys {
		if err = p.a.Rotate(t.Context(), false, Assertion); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("as often as one likes: %v", err)
	}
	p.tell(t, p.a)
	if err := p.holds(p.mint(t, p.a)); err != nil {
		t.Error(err)
	}
}

func kidOf(t *testing.T, raw string) string {
	t.Helper()
	h, err := screen(raw, Assertion)
	if err != nil {
		t.Fatal(err)
	}
	return h.KeyID
}
