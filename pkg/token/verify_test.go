package token

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

func bearers() []Kind { return []Kind{Access, Service, Assertion, Origin} }

func TestWhatWasMintedIsRead(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	for _, kind := range bearers() {
		raw, err := ring.Mint(kind, claimsOf(c.now()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ring.Verifier(kind).Verify(raw, expected(), c.now())
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if diff := cmp.Diff(claimsOf(c.now()), got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

// Every token of every kind at every verifier: only the diagonal passes (attack case F10). Claims are the same for all, so
// that nothing but the kind can tell them apart.
func TestKindsAreNeverMistaken(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	nonce, exporter := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	key := connectorKey()

	tokens := map[Kind]string{}
	for _, kind := range bearers() {
		raw, err := ring.Mint(kind, claimsOf(c.now()))
		if err != nil {
			t.Fatal(err)
		}
		tokens[kind] = raw
	}
	var err error
	if tokens[LinkProof], err = SignLinkProof(key, "con_1", nonce, exporter); err != nil {
		t.Fatal(err)
	}
	if tokens[EdgeProof], err = ring.MintEdgeProof(nonce, exporter); err != nil {
		t.Fatal(err)
	}
	sets, err := ring.KeySets(c.now())
	if err != nil {
		t.Fatal(err)
	}
	tokens[KeySet] = sets[0]

	pinned := NewPinned(ring.RootPublic())
	for _, set := range sets {
		if err := pinned.Update(set, c.now()); err != nil {
			t.Fatal(err)
		}
	}
	type row struct {
		name  string
		takes Kind
		check func(raw string) error
	}
	rows := []row{
		{"link", LinkProof, func(raw string) error {
			return VerifyLinkProof(key.Public().(ed25519.PublicKey), raw, "con_1", nonce, exporter)
		}},
		{"edge", EdgeProof, func(raw string) error { return pinned.VerifyEdgeProof(raw, nonce, exporter, c.now()) }},
		{"key set", KeySet, func(raw string) error { return pinned.Update(raw, c.now()) }},
		{"pinned assertion", Assertion, verifying(pinned.Verifier(Assertion), c.now())},
	}
	for _, kind := range append(bearers(), LinkProof, EdgeProof, KeySet, Root) {
		takes := kind
		if life(kind) == 0 {
			takes = "" // no Claims: its verifier refuses everything
		}
		rows = append(rows, row{"ring " + string(kind), takes, verifying(ring.Verifier(kind), c.now())})
	}
	for _, r := range rows {
		for kind, raw := range tokens {
			if err := r.check(raw); (err == nil) != (kind == r.takes) {
				t.Errorf("%s verifier, %s token: %v", r.name, kind, err)
			}
		}
	}
}

func verifying(v Verifier, now time.Time) func(string) error {
	return func(raw string) error {
		_, err := v.Verify(raw, expected(), now)
		return err
	}
}

// forge signs any header and claims with a key, as no honest program would.
func forge(header, claims string, key ed25519.PrivateKey) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	return text + "." + b64(ed25519.Sign(key, []byte(text)))
}

// The cases of F9, each one change away from a token that is accepted.
func TestForgedTokensAreRefused(t *testing.T) {
	c := newClock()
	ring, shelf := newRing(t, c)
	now := c.now()
	good := claimsOf(now)
	signer, err := ring.held.Load().pick(Assertion, now)
	if err != nil {
		t.Fatal(err)
	}
	var access Key
	for _, k := range shelf.keys {
		if k.Kind == Access {
			access = k
		}
	}
	head := fmt.Sprintf(`{"alg":"EdDSA","typ":%q,"kid":%q}`, Assertion, signer.id)
	text, _ := json.Marshal(bodyOf(good))
	claims := string(text)
	header := func(old, replacement string) string {
		return forge(strings.Replace(head, old, replacement, 1), claims, signer.private)
	}
	change := func(old, replacement string) string {
		if !strings.Contains(claims, old) {
			t.Fatalf("claims do not hold %s: %s", old, claims)
		}
		return forge(head, strings.Replace(claims, old, replacement, 1), signer.private)
	}
	at := func(name string, d time.Duration) string {
		return fmt.Sprintf(`"%s":%d`, name, now.Add(d).Unix())
	}
	exp, iat := at("exp", 4*time.Minute), at("iat", 0)
	honest := forge(head, claims, signer.private)
	parts := strings.Split(honest, ".")
	_, foreign, _ := ed25519.GenerateKey(nil)
	mac := hmac.New(sha256.New, signer.key)
	hs := strings.Replace(head, "EdDSA", "HS256", 1)
	hsText := base64.RawURLEncoding.EncodeToString([]byte(hs)) + "." + parts[1]
	mac.Write([]byte(hsText))

	verify := verifying(ring.Verifier(Assertion), now)
	if err := verify(honest); err != nil {
		t.Fatalf("the honest token is refused: %v", err)
	}
	for name, raw := range map[string]string{
		"empty":                "",
		"no signature":         parts[0] + "." + parts[1] + ".",
		"four segments":        honest + ".x",
		"alg none":             base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(head, "EdDSA", "none", 1))) + "." + parts[1] + ".",
		"HS256, public key":    hsText + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"alg in other case":    header("EdDSA", "eddsa"),
		"alg twice":            header(`"alg":"EdDSA"`, `"alg":"none","alg":"EdDSA"`),
		"typ missing":          header(fmt.Sprintf(`"typ":%q,`, Assertion), ""),
		"typ of access":        header(string(Assertion), string(Access)),
		"typ with application": header(string(Assertion), "application/"+string(Assertion)),
		"kid unknown":          header(signer.id, "another"),
		"kid like a path":      header(signer.id, "../../dev/null"),
		"kid of another kind":  header(signer.id, access.ID),
		"kid missing":          header(fmt.Sprintf(`,"kid":%q`, signer.id), ""),
		"jku":                  header(`"alg"`, `"jku":"https://evil.example/keys","alg"`),
		"jwk":                  header(`"alg"`, `"jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"},"alg"`),
		"x5u":                  header(`"alg"`, `"x5u":"https://evil.example/cert","alg"`),
		"crit":                 header(`"alg"`, `"crit":["b64"],"b64":false,"alg"`),
		"foreign key":          forge(head, claims, foreign),
		"key of another kind":  forge(head, claims, ed25519.NewKeyFromSeed(access.Seed)),
		"changed claims":       parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(claims, "maple", "cedar", 1))) + "." + parts[2],
		"expired":              change(exp, at("exp", -time.Minute)),
		"no exp":               change(exp+",", ""),
		"exp zero":             change(exp, `"exp":0`),
		"exp as text":          change(exp, `"exp":"9999999999"`),
		"exp beyond time":      change(exp, `"exp":9223372036854775807`),
		"exp a float":          change(exp, `"exp":1e18`),
		"lives too long":       change(exp, at("exp", time.Hour)),
		"iat in the future":    change(iat, at("iat", 2*time.Minute)),
		"no iat":               change(iat+",", ""),
		"another audience":     change("con_1/7", "con_2/7"),
		"another generation":   change(`"gen":7`, `"gen":8`),
		"two audiences":        change(`["con_1/7"]`, `["con_1/7","con_2/7"]`),
		"no audience":          change(`["con_1/7"]`, `[]`),
		"another issuer":       change(AssertionIssuer, "https://evil.example"),
		"another tenant":       change("maple", "cedar"),
		"no subject":           change(`"usr_1"`, `""`),
		"no site":              change(`"main"`, `""`),
		"claim twice":          change(`"tnt":"maple"`, `"tnt":"cedar","tnt":"maple"`),
		"claim in two cases":   change(`"tnt":"maple"`, `"tnt":"cedar","Tnt":"maple"`),
		"claim in folded case": change(`"sub"`, `"ſub"`),
		"claim escaped twice":  change(`"tnt":"maple"`, `"tnt":"cedar","\u0074nt":"maple"`),
		"claims after claims":  forge(head, claims+`{"tnt":"cedar"}`, signer.private),
		"claims an array":      forge(head, "["+claims+"]", signer.private),
		"nested too deep":      change(`"tnt"`, `"x":[[[[[[1]]]]]],"tnt"`),
		"not UTF-8":            change("usr_1", "usr_\xff"),
		"huge":                 change("usr_1", strings.Repeat("u", MaxBytes)),
		"padding":              honest + "=",
		"line break":           parts[0] + ".\n" + parts[1] + "." + parts[2],
		"loose last bits":      loosen(honest),
	} {
		t.Run(name, func(t *testing.T) {
			err := verify(raw)
			if !fault.Is(err, fault.Unauthentic) {
				t.Fatalf("got %v", err)
			}
			if fault.Public(err) != "this token is not valid here" {
				t.Errorf("the words tell the reason: %q", fault.Public(err))
			}
			if errors.Is(err, ErrExpired) != (name == "expired") {
				t.Errorf("expired: %v", err)
			}
		})
	}
}

// loosen changes bits of the last character that carry no data: the same signature in another spelling.
func loosen(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + string(alphabet[last^1])
}

func TestExpectingNothingRefusesEverything(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	raw, err := ring.Mint(Access, claimsOf(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	full := expected()
	for _, want := range []Expect{
		{}, {Audience: full.Audience, Tenant: full.Tenant}, {Issuer: full.Issuer, Tenant: full.Tenant}, {Issuer: full.Issuer, Audience: full.Audience},
	} {
		if _, err := ring.Verifier(Access).Verify(raw, want, c.now()); err == nil {
			t.Errorf("accepted with %+v", want)
		}
	}
}

func TestMintRefusesWhatVerifyWould(t *testing.T) {
	c := newClock()
	ring, _ := newRing(t, c)
	for name, spoil := range map[string]func(*Claims){
		"too long":     func(c *Claims) { c.Expires = c.IssuedAt.Add(AssertionLife + time.Second) },
		"no tenant":    func(c *Claims) { c.Tenant = "" },
		"generation 0": func(c *Claims) { c.Generation = 0 },
		"no exp":       func(c *Claims) { c.Expires = time.Time{} },
	} {
		claims := claimsOf(c.now())
		spoil(&claims)
		if _, err := ring.Mint(Assertion, claims); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
	for _, kind := range []Kind{Root, LinkProof, EdgeProof, KeySet, "x"} {
		if _, err := ring.Mint(kind, claimsOf(c.now())); err == nil {
			t.Errorf("%s: minted", kind)
		}
	}
}

func FuzzVerify(f *testing.F) {
	c := newClock()
	ring, _ := newRing(f, c)
	honest, err := ring.Mint(Assertion, claimsOf(c.now()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(honest)
	f.Add("a.b.c")
	f.Add(honest[:len(honest)-2])
	sets, _ := ring.KeySets(c.now())
	f.Add(sets[0])
	verify := verifying(ring.Verifier(Assertion), c.now())
	pinned := NewPinned(ring.RootPublic())
	f.Fuzz(func(t *testing.T, raw string) {
		if err := verify(raw); err == nil && raw != honest {
			t.Errorf("accepted %q", raw)
		}
		_ = pinned.Update(raw, c.now())
	})
}

func BenchmarkVerify(b *testing.B) {
	c := newClock()
	ring, _ := newRing(b, c)
	raw, _ := ring.Mint(Assertion, claimsOf(c.now()))
	v := ring.Verifier(Assertion)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(raw, expected(), c.now()); err != nil {
			b.Fatal(err)
		}
	}
}
