package access_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock                   { return &clock{time.Unix(1_800_000_000, 0)} }
func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

const ref, at = session.CookieReference, session.CookieAccess

func TestReferenceSignsIn(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	who, err := w.access.Authenticate(get("/", ref, value), maple, oscar())
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Principal{Kind: policy.UserPrincipal, ID: "usr_lee", Issuer: "sallyport", Subject: "usr_lee"}
	if who.Principal != want || who.Session.ID != "ses_1" || who.Authentication.Methods[0] != "otp" || len(who.SetCookies) != 1 {
		t.Fatalf("%+v", who)
	}
	minted := who.SetCookies[0]
	if minted.Name != at || !minted.Secure || !minted.HttpOnly || minted.Path != "/" || minted.Domain != "" {
		t.Errorf("cookie %+v", minted)
	}
	who, err = w.access.Authenticate(get("/", ref, value, at, minted.Value), maple, oscar())
	if err != nil || len(who.SetCookies) != 0 {
		t.Errorf("with both: %v, minted %d", err, len(who.SetCookies))
	}
	c.advance(token.AccessLife + time.Minute)
	who, err = w.access.Authenticate(get("/", ref, value, at, minted.Value), maple, oscar())
	if err != nil || len(who.SetCookies) != 1 {
		t.Errorf("after the access token's end: %v, minted %d", err, len(who.SetCookies))
	}
}

// TestBadCookies is attack cases F9, F10 and F21 at the door: nothing but the right pair gets in.
func TestBadCookies(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	who, err := w.access.Authenticate(get("/", ref, value), maple, oscar())
	if err != nil {
		t.Fatal(err)
	}
	good := who.SetCookies[0].Value
	mint := func(kind token.Kind, change func(*token.Claims)) string {
		claims := token.Claims{
			Issuer: session.Issuer(maple.SignInHost), Subject: "usr_lee", Audience: []string{session.Audience("maple", "oscar.maple.example")},
			IssuedAt: c.at, Expires: c.at.Add(time.Minute), Tenant: "maple", Session: "ses_1", Kind: "user", ID: "tok_1",
		}
		change(&claims)
		raw, err := w.ring.Mint(kind, claims)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	same := func(*token.Claims) {}
	for name, cookies := range map[string][]string{
		"none":                    {},
		"access token alone":      {at, good},
		"garbage reference":       {ref, "x"},
		"unknown reference":       {ref, session.NewSecret()},
		"truncated reference":     {ref, value[:42]},
		"oversized reference":     {ref, value + strings.Repeat("a", 4000)},
		"two references":          {ref, value, ref, session.NewSecret()},
		"garbage access token":    {ref, value, at, "x.y.z"},
		"oversized access token":  {ref, value, at, strings.Repeat("a", 5000)},
		"two access tokens":       {ref, value, at, good, at, good},
		"access token cut":        {ref, value, at, good[:len(good)-4]},
		"service as access token": {ref, value, at, mint(token.Service, same)},
		"origin copy as access":   {ref, value, at, mint(token.Origin, same)},
		"another host's token":    {ref, value, at, mint(token.Access, func(c *token.Claims) { c.Audience = []string{session.Audience("maple", "x.example")} })},
		"another tenant's token":  {ref, value, at, mint(token.Access, func(c *token.Claims) { c.Tenant = "cedar" })},
		"another issuer's token":  {ref, value, at, mint(token.Access, func(c *token.Claims) { c.Issuer = session.Issuer(cedar.SignInHost) })},
	} {
		if who, err := w.access.Authenticate(get("/", cookies...), maple, oscar()); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%s: %+v, %v", name, who.Principal, err)
		}
	}
	other := mint(token.Access, func(c *token.Claims) { c.Subject = "usr_kim" })
	if _, err := w.access.Authenticate(get("/", ref, value, at, other), maple, oscar()); !fault.Is(err, fault.Invalid) {
		t.Errorf("two people: %v", err)
	}
	elsewhere := oscar()
	elsewhere.Host = "other.maple.example"
	if _, err := w.access.Authenticate(get("/", ref, value), maple, elsewhere); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("the reference at another host: %v", err)
	}
	foreign := oscar()
	foreign.Tenant = "cedar"
	if _, err := w.access.Authenticate(get("/", ref, value), cedar, foreign); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("the reference at another tenant: %v", err)
	}
	if _, err := w.access.Authenticate(get("/", ref, value), maple, foreign); err == nil {
		t.Error("an app of another tenant was taken")
	}
}

func TestServiceTokens(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	raw := w.service(t, c.at, nil)
	who, err := w.access.Authenticate(withToken(raw), maple, oscar())
	if err != nil || who.Principal.Kind != policy.ServicePrincipal || who.Principal.ID != "booking" || who.Session != nil {
		t.Fatalf("%+v, %v", who, err)
	}
	value := w.signIn("ses_1", c.at)
	both := withToken(raw)
	both.AddCookie(session.NewCookie(ref, value, 0))
	if _, err := w.access.Authenticate(both, maple, oscar()); !fault.Is(err, fault.Invalid) {
		t.Errorf("service and person: %v", err)
	}
	twice := withToken(raw)
	twice.Header.Add(access.TokenHeader, raw)
	if _, err := w.access.Authenticate(twice, maple, oscar()); !fault.Is(err, fault.Invalid) {
		t.Errorf("two tokens: %v", err)
	}
	bearer := get("/")
	bearer.Header.Set("Authorization", "Bearer "+raw)
	if _, err := w.access.Authenticate(bearer, maple, oscar()); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("in Authorization: %v", err)
	}
	for name, bad := range map[string]string{
		"garbage": "x", "empty": "", "long": strings.Repeat("a", 5000), "cut": raw[:len(raw)-3],
		"another tenant":  w.service(t, c.at, func(c *token.Claims) { c.Tenant = "cedar" }),
		"another service": w.service(t, c.at, func(c *token.Claims) { c.Subject = "fax" }),
		"no record":       w.service(t, c.at, func(c *token.Claims) { c.ID = "tok_none" }),
	} {
		if _, err := w.access.Authenticate(withToken(bad), maple, oscar()); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.changed(t, change.Token, string(who.Authentication.Token), func() {
		kept := w.tokens[who.Authentication.Token]
		kept.Revoked = c.at
		w.tokens[who.Authentication.Token] = kept
	})
	if _, err := w.access.Authenticate(withToken(raw), maple, oscar()); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("revoked: %v", err)
	}
	second := w.service(t, c.at, nil)
	c.advance(2 * time.Hour)
	if _, err := w.access.Authenticate(withToken(second), maple, oscar()); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("expired: %v", err)
	}
}

// TestSessionEnds: revocation is seen at once, idling and the absolute end in time, polls do not keep anybody signed in.
func TestSessionEnds(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	try := func(value, target string) error {
		_, err := w.access.Authenticate(get(target, ref, value), maple, oscar())
		return err
	}
	revoked := w.signIn("ses_1", c.at)
	if err := try(revoked, "/"); err != nil {
		t.Fatal(err)
	}
	w.revoke(t, "ses_1", c.at)
	if err := try(revoked, "/"); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("revoked: %v", err)
	}
	used, polled := w.signIn("ses_2", c.at), w.signIn("ses_3", c.at)
	for range 6 {
		c.advance(10 * time.Minute)
		if err := try(used, "/oscar/x"); err != nil {
			t.Fatalf("used every ten minutes: %v", err)
		}
		_ = try(polled, "/oscar/provider/tabAlertsRefresh.jsp")
		_ = try(polled, "/oscar/x.jsp?a=1&autoRefresh=true")
	}
	if err := try(polled, "/"); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("kept by polls: %v", err)
	}
	for range 12 * 6 {
		c.advance(10 * time.Minute)
		_ = try(used, "/")
	}
	if err := try(used, "/"); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("beyond its absolute end: %v", err)
	}
}

func TestUseIsWrittenOnceAMinute(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	for range 600 { // ten minutes of a request a second
		c.advance(time.Second)
		if _, err := w.access.Authenticate(get("/", ref, value), maple, oscar()); err != nil {
			t.Fatal(err)
		}
	}
	if w.touches < 9 || w.touches > 10 {
		t.Errorf("%d writes in ten minutes", w.touches)
	}
	if w.reads > 60 {
		t.Errorf("%d reads for 600 requests", w.reads)
	}
}

func TestStoreAwayIsNoSignOut(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	w.away = true
	if _, err := w.access.Authenticate(get("/", ref, value), maple, oscar()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	w.away = false
	if _, err := w.access.Authenticate(get("/", ref, value), maple, oscar()); err != nil {
		t.Errorf("the failure was kept: %v", err)
	}
}

func TestStrangersAreCounted(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	for range 3 {
		_, _ = w.access.Authenticate(get("/"), maple, oscar())
	}
	got := w.access.Strangers()
	if len(got) != 1 || got[0].Tenant != "maple" || got[0].Source != "192.0.2.1" || got[0].Count != 3 {
		t.Errorf("%+v", got)
	}
	if len(w.recorded) != 0 {
		t.Errorf("strangers made the edge write: %v", w.recorded)
	}
}

// TestKnown: what a stranger makes up is not known, however often it comes; what got in is, until it ends.
func TestKnown(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	rubbish := session.NewSecret()
	known := func(r *http.Request) bool { return w.access.Known(r, maple, oscar()) }
	for range 2 {
		for name, r := range map[string]*http.Request{
			"nothing": get("/"), "rubbish": get("/", ref, rubbish), "a bad form": get("/", ref, "x"), "twice": get("/", ref, value, ref, value),
		} {
			_, _ = w.access.Authenticate(r, maple, oscar())
			if known(r) {
				t.Errorf("%s is known", name)
			}
		}
	}
	token := get("/")
	token.Header.Set(access.TokenHeader, "a.b.c")
	if _, _ = w.access.Authenticate(token, maple, oscar()); known(token) {
		t.Error("a rubbish token is known")
	}
	if known(get("/", ref, value)) {
		t.Error("known before it was looked at")
	}
	if _, err := w.access.Authenticate(get("/", ref, value), maple, oscar()); err != nil || !known(get("/", ref, value)) {
		t.Errorf("a good reference: %v, known %t", err, known(get("/", ref, value)))
	}
	if w.access.Known(get("/", ref, value), cedar, oscar()) {
		t.Error("known at another clinic")
	}
	w.revoke(t, "ses_1", c.at)
	_, _ = w.access.Authenticate(get("/", ref, value), maple, oscar())
	if known(get("/", ref, value)) {
		t.Error("known after its end")
	}
}

// TestRevokedWhileBeingRead lets the change overtake the copy that a request is reading.
func TestRevokedWhileBeingRead(t *testing.T) {
	c := newClock()
	w := newWorld(t, c.now)
	value := w.signIn("ses_1", c.at)
	w.read = func() {
		w.read = nil
		w.revoke(t, "ses_1", c.at)
	}
	for range 2 {
		if _, err := w.access.Authenticate(get("/", ref, value), maple, oscar()); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%v", err)
		}
	}
}

// TestManyAtOnce asks from many goroutines while some of their sessions are revoked.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, time.Now)
	var wg sync.WaitGroup
	for i := range 50 {
		name := id.Session(fmt.Sprintf("ses_%d", i))
		value := w.signIn(name, time.Now())
		for range 4 {
			wg.Go(func() {
				for range 20 {
					who, err := w.access.Authenticate(get("/", ref, value), maple, oscar())
					if err != nil {
						continue // revoked meanwhile
					}
					if who.Session.ID != name {
						t.Errorf("%s got %s", name, who.Session.ID)
					}
					if g, err := w.access.Authorize(t.Context(), question(who, w.apps[0])); err == nil {
						g.Lease.Release()
					}
				}
			})
		}
		if i%2 == 0 {
			wg.Go(func() { w.revoke(t, name, time.Now()) })
		}
	}
	wg.Wait()
	if n := w.access.Leases(); n != 0 {
		t.Errorf("%d leases left", n)
	}
}
