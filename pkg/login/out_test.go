package login_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

func TestSignOutEndsTheSessionOnEveryHost(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	b.typed("https://other.maple.example:8443/oscar/x")
	stolen := map[string]string{
		oscar + "/oscar/x":                         b.cookie("oscar.maple.example", session.CookieReference),
		"https://other.maple.example:8443/oscar/x": b.cookie("other.maple.example", session.CookieReference),
		signIn + "/?":                              b.cookie("signin.maple.example", session.CookieReference),
	}
	b.typed(oscar + "/oscar/x")
	p := b.follow("/.sallyport/sign-out")
	if p.url.Path != "/.sallyport/signed-out" || !strings.Contains(p.text(), "You are signed out") {
		t.Fatalf("%s\n%s", p.url, p.text())
	}
	for target, value := range stolen {
		r := httptest.NewRequest("GET", target, nil)
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: value})
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "chart") || strings.Contains(w.Body.String(), "You are signed in") {
			t.Errorf("%s still opens", target)
		}
		if strings.HasPrefix(target, signIn) && !slices.ContainsFunc(w.Result().Cookies(), func(c *http.Cookie) bool {
			return c.Name == session.CookieReference && c.MaxAge < 0
		}) {
			t.Error("the sign-in page does not clear the dead reference")
		}
	}
	for _, name := range []string{session.CookieReference, session.CookieAccess, session.CookieFlow} {
		if v := b.cookie("oscar.maple.example", name); v != "" {
			t.Errorf("%s is still there", name)
		}
	}
	// The browser stays known: strangers cannot lock its people out.
	if b.cookie("signin.maple.example", session.CookieKnown) == "" {
		t.Error("sign-out forgot that the browser is known")
	}
}

func TestSignOutThatAnotherSiteStartedIsAskedAbout(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"cross-site":  {"Sec-Fetch-Site": "cross-site"},
		"same-site":   {"Sec-Fetch-Site": "same-site"},
		"nobody says": {"Sec-Fetch-Site": ""},
		"frame":       {"Sec-Fetch-Dest": "iframe"},
		"image":       {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
		"prefetch":    {"Sec-Purpose": "prefetch"},
	} {
		c := newClinic(t)
		b := newBrowser(t, c)
		c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
		b.header = header
		p := b.follow("/.sallyport/sign-out")
		if p.Code != http.StatusOK || !strings.Contains(p.text(), "Sign out?") {
			t.Errorf("%s: %d %s", name, p.Code, p.url)
		}
		b.header = map[string]string{}
		if again := b.follow("/oscar/x"); !strings.HasPrefix(again.text(), "chart") {
			t.Errorf("%s: signed out without being asked", name)
		}
		if p = b.submit(p, "/.sallyport/sign-out", nil); p.url.Path != "/.sallyport/signed-out" {
			t.Errorf("%s: the button leads to %s", name, p.url)
		}
	}
}

// Nobody lands in the origin's session of the person before; somebody who comes back keeps theirs.
func TestTheOriginsSessionEndsWithThePerson(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	origin := &url.URL{Scheme: "https", Host: "oscar.maple.example", Path: "/oscar/"}
	jsession := func() string {
		for _, cookie := range b.jar.Cookies(origin) {
			if cookie.Name == "JSESSIONID" {
				return cookie.Value
			}
		}
		return ""
	}
	login := func() {
		b.jar.SetCookies(origin, []*http.Cookie{{Name: "JSESSIONID", Value: "LEE", Path: "/oscar", Secure: true}})
	}
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	login()
	c.clock.advance(31 * time.Minute) // idle: the edge's session is over, the origin's is not
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	if jsession() != "LEE" {
		t.Error("the same person lost the origin's session")
	}
	c.clock.advance(31 * time.Minute)
	c.signInAs(b, "p.roy@maple.example", "/oscar/x")
	if jsession() != "" {
		t.Error("the next person has the origin's session of the one before")
	}
	login()
	b.follow("/.sallyport/sign-out")
	if jsession() != "" {
		t.Error("the origin's session outlived the sign-out")
	}
}

func TestWithoutASession(t *testing.T) {
	c := newClinic(t)
	for name, tc := range map[string]struct {
		method string
		header map[string]string
		status int
		want   string
	}{
		"navigation":     {"GET", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 303, ""},
		"old browser":    {"GET", map[string]string{"Accept": "text/html"}, 303, ""},
		"script":         {"GET", map[string]string{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 401, `"sign_in":"/.sallyport/sign-in"`},
		"script's form":  {"POST", map[string]string{"X-Requested-With": "XMLHttpRequest"}, 401, `"error":"E-SIGN-IN"`},
		"image":          {"GET", map[string]string{"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 401, "E-SIGN-IN"},
		"form":           {"POST", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 401, "was not saved"},
		"form in frame":  {"POST", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 401, "was not saved"},
		"frame":          {"GET", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "frame"}, 401, "signed out"},
		"client program": {"GET", nil, 401, "E-SIGN-IN"},
	} {
		r := httptest.NewRequest(tc.method, oscar+"/oscar/x", strings.NewReader("note=1"))
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s: %d\n%s", name, w.Code, w.Body)
		}
		if tc.status == 401 && w.Header().Get("Location") != "" {
			t.Errorf("%s: redirected", name)
		}
	}
}

// A page with unsaved work sends its reader to another window, which ends with the way back to the first.
func TestSigningInBesideUnsavedWork(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	b.at = &url.URL{Scheme: "https", Host: "oscar.maple.example:8443", Path: "/oscar/note"}
	p := b.follow("/.sallyport/sign-in")
	p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}})
	if p.url.Path != "/.sallyport/back" || !strings.Contains(p.text(), "save again") {
		t.Errorf("%s\n%s", p.url, p.text())
	}
	if p = b.follow("/.sallyport/sign-in"); p.url.Path != "/.sallyport/back" {
		t.Errorf("signed in already: %s", p.url)
	}
}

func TestSessionInfoTellsNoAddressAndDoesNotKeepAlive(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	for range 40 {
		c.clock.advance(time.Minute)
		b.header = map[string]string{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
		p := b.follow(oscar + "/.sallyport/session")
		if p.Code == http.StatusUnauthorized {
			return
		}
		var info struct {
			User  string
			Until time.Time
		}
		if err := json.Unmarshal(p.Body.Bytes(), &info); err != nil || info.User != string(c.lee.ID) || strings.Contains(p.text(), "@") {
			t.Fatalf("%v: %s", err, p.text())
		}
	}
	t.Error("asking kept the session alive for 40 minutes")
}

func TestClearingCookies(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	for i := range 30 {
		b.jar.SetCookies(&url.URL{Scheme: "https", Host: "oscar.maple.example", Path: "/"}, []*http.Cookie{
			{Name: fmt.Sprintf("big%d", i), Value: strings.Repeat("x", 400), Path: "/", Secure: true},
		})
	}
	p := b.follow(web.Prefix + "clear")
	if p.Code != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("offer: %d", p.Code)
	}
	p = b.submit(p, "/.sallyport/clear", nil)
	if got := p.passed[0].Header().Get("Clear-Site-Data"); got != `"cookies"` {
		t.Errorf("Clear-Site-Data: %q", got)
	}
	if v := b.cookie("oscar.maple.example", "big7"); v != "" {
		t.Error("cookies are still there")
	}
}

func TestJWKSAndStyleAreServedAndNothingElse(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	if p := b.typed(signIn + "/.well-known/jwks.json"); p.Code != 200 || !strings.Contains(p.text(), `"keys"`) {
		t.Errorf("key set: %d %s", p.Code, p.text())
	}
	for _, target := range []string{signIn + "/oscar/login.do", oscar + web.Prefix + "nothing"} {
		if p := b.typed(target); p.Code != http.StatusNotFound || !strings.Contains(p.text(), "REQUEST") {
			t.Errorf("%s: %d", target, p.Code)
		}
	}
}
