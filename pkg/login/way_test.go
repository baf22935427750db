package login_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

func TestTheWholeWay(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	p := b.typed(oscar + "/oscar/chart?demographic_no=4211")
	if p.Code != 200 || p.url.Host != "signin.maple.example:8443" || !strings.Contains(p.text(), "MAPLE Clinic") {
		t.Fatalf("first page: %d %s\n%s", p.Code, p.url, p.text())
	}
	if strings.Contains(p.url.String()+p.text(), "4211") {
		t.Error("the sign-in host shows where in the chart the person was going")
	}
	p = b.submit(p, "/email", url.Values{"email": {" Dr.Lee@MAPLE.example "}})
	if p.Code != 200 || p.url.Path != "/code" || !strings.Contains(p.text(), "dr.lee@maple.example") {
		t.Fatalf("code page: %d %s", p.Code, p.url)
	}
	if csp := p.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+oscar) {
		t.Errorf("Chromium would not follow the redirect after the form: %q", csp)
	}
	code := c.mail.lastCode(t)
	p = b.submit(p, "/code", url.Values{"code": {code[:3] + " " + code[3:]}})
	if want := "chart /oscar/chart?demographic_no=4211 site=same-origin"; p.text() != want {
		t.Fatalf("ended at %s with %q, want %q; way %v", p.url, p.text(), want, p.chain)
	}
	want := []string{
		"See Other signin.maple.example:8443/code",
		"refresh /.sallyport/redeem",
	}
	if diff := cmp.Diff(want, p.chain); diff != "" {
		t.Errorf("way (-want +got):\n%s", diff)
	}
	checkAccessToken(t, c, b)
	// Another app of the clinic takes nothing but the way there and back.
	if p := b.typed("https://other.maple.example:8443/oscar/x"); p.text() != "chart /oscar/x site=none" {
		t.Errorf("second app: %s %q", p.url, p.text())
	}
	if n := c.mail.count(); n != 1 {
		t.Errorf("%d messages for one sign-in", n)
	}
}

func checkAccessToken(t *testing.T, c *clinic, b *browser) {
	t.Helper()
	claims, err := c.keys.Verifier(token.Access).Verify(b.cookie("oscar.maple.example", session.CookieAccess),
		token.Expect{Issuer: "https://signin.maple.example", Audience: "maple/oscar.maple.example", Tenant: "maple"}, c.clock.now())
	if err != nil {
		t.Fatalf("access token: %v", err)
	}
	s, err := c.keeper.Lookup(context.Background(), "maple", b.cookie("oscar.maple.example", session.CookieReference), "oscar.maple.example")
	if err != nil || s.User != c.lee.ID || claims.Subject != string(c.lee.ID) || claims.Session != s.ID {
		t.Errorf("token for %s in %s, session of %s, %v", claims.Subject, claims.Session, s.User, err)
	}
	if !slices.Equal(claims.Methods, []string{"email"}) {
		t.Errorf("amr %v", claims.Methods)
	}
	if life := claims.Expires.Sub(c.clock.now()); life > 5*time.Minute {
		t.Errorf("token lives %v", life)
	}
}

// Every cookie that any step sets stays on its host, away from scripts and away from plain HTTP.
func TestEveryCookieIsHostOnlySecureAndHidden(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	p := c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	out := b.follow("/.sallyport/sign-out")
	seen := map[string]bool{}
	for _, w := range append(append(p.passed, p.ResponseRecorder), append(out.passed, out.ResponseRecorder)...) {
		for _, cookie := range w.Result().Cookies() {
			seen[cookie.Name] = true
			if !session.IsOurs(cookie.Name) {
				continue
			}
			if !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.Domain != "" || cookie.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s", cookie.Raw)
			}
		}
	}
	for _, name := range []string{session.CookieReference, session.CookieAccess, session.CookieKnown, "JSESSIONID"} {
		if !seen[name] {
			t.Errorf("%s was never set", name)
		}
	}
}

// A person who is signed in goes straight on; what a foreign site began is left to the guard against foreign links.
func TestSignedInGoesStraightOnAndForeignStartsAreNotLaundered(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	b.at = &url.URL{Scheme: "https", Host: "mail.elsewhere.test", Path: "/"}
	p := b.follow("https://other.maple.example:8443/oscar/delete?id=1")
	if p.text() != "chart /oscar/delete?id=1 site=cross-site" {
		t.Errorf("a foreign link arrived as %q", p.text())
	}
	if slices.ContainsFunc(p.chain, func(s string) bool { return strings.HasPrefix(s, "refresh") }) {
		t.Errorf("a foreign link was carried on from our own page: %v", p.chain)
	}
}

func TestSeveralWindowsMaySignInAtOnce(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	first := b.typed(oscar + "/oscar/a")
	second := b.typed(oscar + "/oscar/b")
	p := b.submit(second, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	if p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}}); !strings.HasPrefix(p.text(), "chart /oscar/b") {
		t.Fatalf("second window: %q", p.text())
	}
	// The first window still shows the form; reloading it goes on to its own page.
	if p = b.typed(first.url.String()); !strings.HasPrefix(p.text(), "chart /oscar/a") {
		t.Errorf("first window: %s %q", p.url, p.text())
	}
}

func TestADestinationThatExpiredStillLeadsThere(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	p := b.typed(oscar + "/oscar/a")
	c.clock.advance(2 * time.Hour)
	p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}})
	if !strings.HasPrefix(p.text(), "chart /oscar/a") {
		t.Errorf("ended at %s: %q", p.url, p.text())
	}
}

func TestSignInWithoutAnAppShowsTheApps(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	p := b.typed(signIn + "/")
	p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}})
	if p.url.Path != "/" || !strings.Contains(p.text(), "as dr.lee@maple.example") || !strings.Contains(p.text(), `href="`+oscar+`/"`) {
		t.Errorf("%s:\n%s", p.url, p.text())
	}
	p = b.submit(p, "/sign-out", nil)
	if p.url.Path != "/signed-out" || b.cookie("signin.maple.example", session.CookieReference) != "" {
		t.Errorf("sign-out: %s", p.url)
	}
}
