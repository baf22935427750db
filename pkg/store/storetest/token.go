package storetest

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

func signingKey(kind token.Kind, kid string, created time.Time) token.Key {
	return token.Key{
		Kind: kind, ID: kid, Seed: []byte("0123456789abcdef0123456789abcdef"), Created: created,
		NotAfter: created.Add(24 * time.Hour), Retired: created.Add(48 * time.Hour),
	}
}

func testKeys(t *testing.T, s Stores) {
	ctx := t.Context()
	root := token.Key{Kind: token.Root, ID: "root-1", Seed: []byte("seed"), Created: moment} // no end
	first := signingKey(token.Access, "a-1", moment)
	must(t, s.Keys.CreateKey(ctx, root))
	must(t, s.Keys.CreateKey(ctx, first))
	must(t, s.Keys.CreateKey(ctx, signingKey(token.Assertion, "b-1", moment)))
	wantCode(t, "a second root", s.Keys.CreateKey(ctx, token.Key{Kind: token.Root, ID: "root-2", Created: moment.Add(1000 * time.Hour)}), fault.Exists)
	wantCode(t, "a second while one signs", s.Keys.CreateKey(ctx, signingKey(token.Access, "a-2", first.NotAfter.Add(-time.Millisecond))), fault.Exists)
	next := signingKey(token.Access, "a-2", first.NotAfter)
	must(t, s.Keys.CreateKey(ctx, next))
	got, err := s.Keys.Keys(ctx)
	must(t, err)
	byID := make(map[string]token.Key)
	for _, k := range got {
		byID[k.ID] = k
	}
	same(t, "root", root, byID["root-1"])
	same(t, "first", first, byID["a-1"])
	same(t, "next", next, byID["a-2"])
	if len(got) != 4 {
		t.Errorf("%d keys, want 4", len(got))
	}
}

// testRotation: the new key is there beside the old ones, which end when they are told to, and never later than they would have.
func testRotation(t *testing.T, s Stores) {
	ctx := t.Context()
	old := signingKey(token.Access, "a-1", moment)
	other := signingKey(token.Assertion, "b-1", moment)
	must(t, s.Keys.CreateKey(ctx, old))
	must(t, s.Keys.CreateKey(ctx, other))
	next := signingKey(token.Access, "a-2", moment.Add(time.Hour))
	must(t, s.Keys.RotateKey(ctx, next, moment.Add(time.Hour), moment.Add(2*time.Hour)))
	old.NotAfter, old.Retired = moment.Add(time.Hour), moment.Add(2*time.Hour)
	sameKeys(t, s, old, next, other)
	last := signingKey(token.Access, "a-3", moment.Add(3*time.Hour))
	withdrawn := time.UnixMilli(1).UTC()
	must(t, s.Keys.RotateKey(ctx, last, withdrawn, withdrawn))
	old.NotAfter, old.Retired, next.NotAfter, next.Retired = withdrawn, withdrawn, withdrawn, withdrawn
	sameKeys(t, s, old, next, last, other)
	must(t, s.Keys.RotateKey(ctx, signingKey(token.Access, "a-4", moment), last.NotAfter.Add(time.Hour), last.Retired.Add(time.Hour)))
	sameKeys(t, s, old, next, last, signingKey(token.Access, "a-4", moment), other)
}

func sameKeys(t *testing.T, s Stores, want ...token.Key) {
	t.Helper()
	got, err := s.Keys.Keys(t.Context())
	must(t, err)
	same(t, "keys", byKeyID(want), byKeyID(got))
}

func byKeyID(keys []token.Key) map[string]token.Key {
	out := map[string]token.Key{}
	for _, k := range keys {
		out[k.ID] = k
	}
	return out
}

func testRotationRace(t *testing.T, s Stores) {
	must(t, s.Keys.CreateKey(t.Context(), signingKey(token.Access, "a-1", moment)))
	// Two operators, and no more: each waits for the other's rows.
	results := make(chan error, 2)
	for i := range cap(results) {
		go func() {
			results <- s.Keys.RotateKey(t.Context(), signingKey(token.Access, name("k", i), moment), moment, moment)
		}()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else if !fault.Is(err, fault.Conflict) {
			t.Error(err)
		}
	}
	keys, err := s.Keys.Keys(t.Context())
	must(t, err)
	if won == 0 || len(keys) != won+1 {
		t.Errorf("%d won, and there are %d keys", won, len(keys))
	}
}

func testKeyRace(t *testing.T, s Stores) {
	won := race(t, func(i int) error {
		return s.Keys.CreateKey(t.Context(), signingKey(token.Access, name("k", i), moment))
	}, fault.Exists)
	keys, err := s.Keys.Keys(t.Context())
	must(t, err)
	if won != 1 || len(keys) != 1 {
		t.Errorf("%d edges made %d keys, want 1 and 1", won, len(keys))
	}
}

func testServiceTokens(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	one := token.ServiceToken{Tenant: maple, ID: id.NewToken(), Service: "booking", Created: moment, Expires: moment.Add(time.Hour)}
	must(t, s.Services.CreateServiceToken(ctx, one))
	wantCode(t, "a token twice", s.Services.CreateServiceToken(ctx, one), fault.Exists)
	wantCode(t, "a token of nobody", s.Services.CreateServiceToken(ctx, token.ServiceToken{Tenant: birch, ID: id.NewToken()}), fault.NotFound)
	check := func(what string) {
		t.Helper()
		got, err := s.Services.ServiceToken(ctx, maple, one.ID)
		must(t, err)
		same(t, what, one, got)
	}
	check("as made")
	must(t, s.Services.TouchServiceToken(ctx, maple, one.ID, moment))
	must(t, s.Services.TouchServiceToken(ctx, maple, one.ID, moment.Add(59*time.Second)))
	one.LastUsed = moment
	check("touched twice within a minute")
	must(t, s.Services.TouchServiceToken(ctx, maple, one.ID, moment.Add(time.Minute)))
	must(t, s.Services.TouchServiceToken(ctx, maple, one.ID, moment))
	one.LastUsed = moment.Add(time.Minute)
	check("touched after a minute, then by late news")
	must(t, s.Services.RevokeServiceToken(ctx, maple, one.ID, moment.Add(time.Second)))
	must(t, s.Services.RevokeServiceToken(ctx, maple, one.ID, moment.Add(time.Hour)))
	one.Revoked = moment.Add(time.Second)
	check("revoked twice keeps the first time")
	all, err := s.Services.ServiceTokens(ctx, maple)
	must(t, err)
	same(t, "list", []token.ServiceToken{one}, all)
	missing := id.NewToken()
	_, err = s.Services.ServiceToken(ctx, maple, missing)
	wantCode(t, "an unknown token", err, fault.NotFound)
	wantCode(t, "revoking nothing", s.Services.RevokeServiceToken(ctx, maple, missing, moment), fault.NotFound)
	wantCode(t, "touching nothing", s.Services.TouchServiceToken(ctx, maple, missing, moment), fault.NotFound)
}
