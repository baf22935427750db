package login_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// handedOff goes the way up to the redirect that carries the code, and returns that redirect without following it.
func handedOff(t *testing.T, c *clinic, b *browser, target string) *url.URL {
	t.Helper()
	p := b.typed(oscar + target)
	p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	u := *b.at
	u.Path, u.RawQuery = "/code", ""
	w := b.send(http.MethodPost, &u, url.Values{"code": {c.mail.lastCode(t)}, "to": {p.url.Query().Get("to")}}, "same-origin")
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusSeeOther || to.Path != "/.sallyport/redeem" {
		t.Fatalf("after the code: %d %q %v", w.Code, w.Header().Get("Location"), err)
	}
	return to
}

func TestRedeemOnlyFromSignInInTheBrowserThatBegan(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, c *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder{
		"started by a script of the app": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			return b.send("GET", to, nil, "same-origin")
		},
		"in a frame": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			b.header["Sec-Fetch-Dest"] = "iframe"
			return b.send("GET", to, nil, "cross-site")
		},
		"by fetch": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			b.header["Sec-Fetch-Mode"] = "cors"
			return b.send("GET", to, nil, "cross-site")
		},
		"by prefetch": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			b.header["Sec-Purpose"] = "prefetch;prerender"
			return b.send("GET", to, nil, "none")
		},
		"by HEAD": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			return b.send("HEAD", to, nil, "same-site")
		},
		"another browser": func(t *testing.T, c *clinic, _ *browser, to *url.URL) *httptest.ResponseRecorder {
			other := newBrowser(t, c)
			other.typed(oscar + "/oscar/x") // it has a flow of its own
			return other.send("GET", to, nil, "cross-site")
		},
		"a browser without a flow": func(t *testing.T, c *clinic, _ *browser, to *url.URL) *httptest.ResponseRecorder {
			return newBrowser(t, c).send("GET", to, nil, "none")
		},
		"another browser with its own destination": func(t *testing.T, c *clinic, _ *browser, to *url.URL) *httptest.ResponseRecorder {
			other := newBrowser(t, c)
			p := other.typed(oscar + "/oscar/x")
			u := *to
			u.RawQuery = url.Values{"code": {to.Query().Get("code")}, "to": {p.url.Query().Get("to")}}.Encode()
			return other.send("GET", &u, nil, "same-site")
		},
		"another app of the clinic": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			u := *to
			u.Host = "other.maple.example:8443"
			return b.send("GET", &u, nil, "same-site")
		},
		"another clinic": func(_ *testing.T, _ *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			u := *to
			u.Host = "oscar.birch.example:8443"
			return b.send("GET", &u, nil, "cross-site")
		},
		"too late": func(_ *testing.T, c *clinic, b *browser, to *url.URL) *httptest.ResponseRecorder {
			c.clock.advance(session.HandoffLife + time.Second)
			return b.send("GET", to, nil, "same-site")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			b := newBrowser(t, c)
			to := handedOff(t, c, b, "/oscar/x")
			w := attack(t, c, b, to)
			// The answer's own address holds the code, so that nothing may be shown there.
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/.sallyport/elsewhere" || w.Body.Len() != 0 {
				t.Errorf("status %d to %q", w.Code, w.Header().Get("Location"))
			}
			for _, cookie := range w.Result().Cookies() {
				if cookie.Name == session.CookieReference || cookie.Name == session.CookieAccess {
					t.Errorf("gave out %s", cookie.Name)
				}
			}
			if name == "too late" {
				return
			}
			clear(b.header)
			if w := b.send("GET", to, nil, "same-site"); w.Code != http.StatusOK && w.Code != http.StatusSeeOther {
				t.Errorf("the attack spent the honest browser's code: %d", w.Code)
			}
		})
	}
}

// A script of an app's host may open the sign-in host in a frame or a window, or fetch it, for a flow of somebody else: what
// is no whole page gets no code, and a window that was opened is cut off from its opener.
func TestOnlyAWholePageIsHandedOn(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	begun := newBrowser(t, c).typed(oscar + "/oscar/x").url
	for name, header := range map[string]map[string]string{
		"frame": {"Sec-Fetch-Dest": "iframe"}, "object": {"Sec-Fetch-Dest": "object"}, "fetch": {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"},
		"prefetch": {"Sec-Purpose": "prefetch"},
	} {
		b.header = header
		if w := b.send(http.MethodGet, begun, nil, "same-site"); w.Header().Get("Location") != "" {
			t.Errorf("%s: sent on to %s", name, w.Header().Get("Location"))
		}
	}
	b.header = nil
	w := b.send(http.MethodGet, begun, nil, "same-site")
	if !strings.Contains(w.Header().Get("Location"), "redeem?code=") || w.Header().Get("Cross-Origin-Opener-Policy") != "same-origin" {
		t.Errorf("a whole page: %d %v", w.Code, w.Header())
	}
	if p := b.follow(w.Header().Get("Location")); p.Code != http.StatusForbidden || p.url.Path != "/.sallyport/elsewhere" || p.url.RawQuery != "" {
		t.Errorf("another's flow ended at %s with %d", p.url, p.Code)
	}
}

func TestACodeForAnAppIsSpentOnce(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	to := handedOff(t, c, b, "/oscar/x")
	b.send("GET", to, nil, "same-site")
	before := b.cookie("oscar.maple.example", session.CookieReference)
	w := b.send("GET", to, nil, "none") // a reload
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/oscar/x" {
		t.Errorf("reload: %d %q", w.Code, w.Header().Get("Location"))
	}
	if b.cookie("oscar.maple.example", session.CookieReference) != before {
		t.Error("a spent code gave a new reference")
	}
}

// Whatever is odd about a target leads to the app's start page, never elsewhere.
func TestOddTargetsLeadToTheStartPage(t *testing.T) {
	c := newClinic(t)
	host := "oscar.maple.example"
	app := c.apps[host]
	ten := c.tenants["signin.maple.example"]
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	goesTo := func(target string) string {
		r := httptest.NewRequest("GET", "https://"+host+"/", nil)
		w := httptest.NewRecorder()
		c.login.Begin(w, r, ten, app, target)
		at, _ := url.Parse(w.Header().Get("Location"))
		flow := w.Result().Cookies()
		b.jar.SetCookies(&url.URL{Scheme: "https", Host: host, Path: "/"}, flow)
		w = b.send("GET", at, nil, "none")
		at, _ = url.Parse(w.Header().Get("Location"))
		return b.send("GET", at, nil, "none").Header().Get("Location")
	}
	for _, target := range []string{
		"//e", `/\e`, "/%09/e", "https:e", `\e`, "%2f%2fe", "/%2f%2fe", "/%5ce", "oscar.maple.example.evil", "javascript:alert(1)", "https://oscar.birch.example/",
		"/a//b", "/a/../b", "/a/..;/b", "/%2e%2e/b", "/./a", "", "?x", "/a\r\nSet-Cookie: x=y", "/a#b", "/a b", "/a\x00", "/ä", "/%zz", "/%2",
		"/.sallyport/redeem?code=x", "/.sallyport/sign-out", "/.sallyport", "/a%25252f", `/a"b`, "/" + strings.Repeat("a", 5000),
	} {
		if got := goesTo(target); got != "/" {
			t.Errorf("%.40q leads to %.60q", target, got)
		}
	}
	for _, target := range []string{
		"/", "/oscar/provider/providercontrol.jsp?year=2026&month=11&day=22&view=0&displaymode=day", "/oscar/eform/x.do?a=%2F%25&b=//c",
		"/oscar/a%20b;jsessionid=1", "/.sallyport/back", "/.sallyportal",
	} {
		if got := goesTo(target); got != target {
			t.Errorf("%q leads to %q", target, got)
		}
	}
}

// A bookmark whose target grows on the way must not end in an address that nobody takes.
func TestEveryTargetCanBeCarried(t *testing.T) {
	c := newClinic(t)
	for _, target := range []string{"/x?" + strings.Repeat("&", 4000), "/x?" + strings.Repeat("a=b&", 900), "/x?" + strings.Repeat("'", 4000)} {
		c.clock.advance(time.Minute)
		b := newBrowser(t, c)
		p := c.signInAs(b, "dr.lee@maple.example", target)
		if p.Code != http.StatusOK || p.url.Host != "oscar.maple.example:8443" || p.url.Path != "/x" && p.url.Path != "/" {
			t.Errorf("%.10s ended at %.60s with %d", target, p.url, p.Code)
		}
		for _, w := range p.passed {
			if n := len(w.Header().Get("Location")); n > 8<<10 {
				t.Errorf("%.10s is sent on in %d bytes", target, n)
			}
		}
	}
}

// Two apps share a host: a sign-in leads to the page of the app that was asked for, whichever the door on the host stands for.
func TestSeveralAppsOnAHost(t *testing.T) {
	c := newClinic(t)
	host := "oscar.maple.example"
	asked, door := c.apps[host], c.apps[host]
	asked.Path, door.Path = "/oscar", "/oscar/ws"
	c.apps[host] = door
	b := newBrowser(t, c)
	w := httptest.NewRecorder()
	c.login.Begin(w, httptest.NewRequest("GET", "https://"+host+"/oscar/x", nil), c.tenants["signin.maple.example"], asked, "/oscar/x?y=1")
	b.jar.SetCookies(&url.URL{Scheme: "https", Host: host, Path: "/"}, w.Result().Cookies())
	p := b.submit(b.typed(w.Header().Get("Location")), "/email", url.Values{"email": {"dr.lee@maple.example"}})
	p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}})
	if p.url.RequestURI() != "/oscar/x?y=1" {
		t.Errorf("a sign-in for /oscar/x?y=1 led to %s", p.url)
	}
}

func TestFormsFromElsewhereDoNothing(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"cross-site":       {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"},
		"same-site":        {"Sec-Fetch-Site": "same-site", "Origin": oscar},
		"only Origin":      {"Sec-Fetch-Site": "", "Origin": oscar},
		"opaque origin":    {"Sec-Fetch-Site": "", "Origin": "null"},
		"neither":          {"Sec-Fetch-Site": "", "Origin": ""},
		"foreign and none": {"Sec-Fetch-Site": "cross-site", "Origin": ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			b := newBrowser(t, c)
			p := b.typed(signIn + "/")
			b.header = header
			p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
			if p.Code != http.StatusForbidden || c.mail.count() != 0 || len(p.Result().Cookies()) != 0 {
				t.Errorf("%d, %d messages, cookies %v", p.Code, c.mail.count(), p.Result().Cookies())
			}
			if !strings.Contains(p.text(), `action="/email"`) {
				t.Error("no way to start again")
			}
			for _, path := range []string{"sign-out", "clear"} {
				u, _ := url.Parse(oscar + web.Prefix + path)
				r := httptest.NewRequest("POST", u.String(), nil)
				for k, v := range header {
					if v != "" && (k != "Origin" || v != oscar) {
						r.Header.Set(k, v)
					}
				}
				w := httptest.NewRecorder()
				c.ServeHTTP(w, r)
				if w.Code != http.StatusForbidden {
					t.Errorf("POST %s: %d", path, w.Code)
				}
			}
		})
	}
}

// Known and unknown addresses: same status, headers, cookies and pages, apart from what is random.
func TestKnownAndUnknownAddressesLookTheSame(t *testing.T) {
	c := newClinic(t)
	look := func(email string) []string {
		b := newBrowser(t, c)
		p := b.typed(oscar + "/oscar/x")
		p = b.submit(p, "/email", url.Values{"email": {email}})
		wrong := b.submit(p, "/code", url.Values{"code": {"000000"}})
		var out []string
		for _, w := range append(append(p.passed, p.ResponseRecorder), append(wrong.passed, wrong.ResponseRecorder)...) {
			text := fmt.Sprint(w.Code, w.Header(), w.Body.String())
			for _, cookie := range w.Result().Cookies() {
				text = strings.ReplaceAll(text, cookie.Value, fmt.Sprintf("<%d>", len(cookie.Value)))
			}
			text = strings.ReplaceAll(text, p.url.Query().Get("to"), "<to>")
			out = append(out, strings.ReplaceAll(text, email, "<email>"))
		}
		return out
	}
	known, unknown := look("dr.lee@maple.example"), look("dr.who@maple.example")
	if diff := cmp.Diff(known, unknown); diff != "" {
		t.Errorf("known and unknown differ (-known +unknown):\n%s", diff)
	}
	if n := c.mail.count(); n != 1 {
		t.Errorf("%d messages, want 1: to the known address", n)
	}
}

func TestKnownAndUnknownAddressesTakeTheSameTime(t *testing.T) {
	c := newClinic(t)
	const samples = 100
	took := map[string][]time.Duration{}
	b := newBrowser(t, c)
	u, _ := url.Parse(signIn + "/email")
	b.at = u
	for range samples {
		for _, email := range []string{"dr.lee@maple.example", "dr.who@maple.example"} {
			c.clock.advance(time.Hour)
			began := time.Now()
			w := b.send("POST", u, url.Values{"email": {email}}, "same-origin")
			took[email] = append(took[email], time.Since(began))
			if w.Code != http.StatusSeeOther {
				t.Fatalf("%s: %d", email, w.Code)
			}
		}
	}
	median := func(email string) time.Duration {
		slices.Sort(took[email])
		return took[email][samples/2]
	}
	if d := (median("dr.lee@maple.example") - median("dr.who@maple.example")).Abs(); d >= 5*time.Millisecond {
		t.Errorf("medians differ by %v", d)
	}
}

// endless is a body that never ends and counts what was taken of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	e.read += int64(len(p))
	return len(p), nil
}

func TestBodiesOfStrangersAreBounded(t *testing.T) {
	c := newClinic(t)
	for _, path := range []string{"/email", "/again", "/code"} {
		body := &endless{}
		r := httptest.NewRequest("POST", signIn+path, io.LimitReader(body, 1<<30))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code < 400 || w.Code > 499 || body.read > 128<<10 {
			t.Errorf("%s: %d after %d bytes", path, w.Code, body.read)
		}
		if !strings.Contains(w.Body.String(), "start again") {
			t.Errorf("%s: no way to start again", path)
		}
	}
}

func TestGarbageCookiesLeadToSignIn(t *testing.T) {
	c := newClinic(t)
	good := session.NewSecret()
	for _, cookies := range []string{
		"", "=", strings.Repeat("A", 4096), "null", `"` + good + `"`, good + "=", good[:42], good, "../../x", "%00", good + "; " + session.CookieReference + "=" + good,
	} {
		for _, target := range []string{signIn + "/", signIn + "/code", oscar + "/oscar/x", oscar + "/.sallyport/redeem?code=" + good + "&to=x"} {
			r := httptest.NewRequest("GET", target, nil)
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			for _, name := range []string{session.CookieReference, session.CookieFlow, session.CookieSignIn, session.CookieKnown} {
				r.Header.Add("Cookie", name+"="+cookies)
			}
			w := httptest.NewRecorder()
			c.ServeHTTP(w, r)
			if w.Code >= 500 || strings.Contains(w.Body.String(), "chart") {
				t.Errorf("%s with %.20q: %d", target, cookies, w.Code)
			}
		}
	}
}

// Nothing that comes in by query or form goes out unescaped.
func TestNothingIsReflectedRaw(t *testing.T) {
	c := newClinic(t)
	const mark = `"><svg/onload=x>'`
	query := url.Values{}
	for _, name := range []string{"to", "code", "problem", "sent", "email", "next", "e", "url"} {
		query.Set(name, mark)
	}
	for _, path := range []string{"/", "/code", "/signed-out", "/nothing" + url.PathEscape(mark), "/email", "/again", "/sign-out"} {
		for _, method := range []string{"GET", "POST"} {
			checkReflection(t, c, method, signIn+path, query, mark)
		}
	}
	for _, path := range []string{"redeem", "sign-out", "signed-out", "back", "sign-in", "session", "clear", "x" + url.PathEscape(mark)} {
		for _, method := range []string{"GET", "POST"} {
			checkReflection(t, c, method, oscar+web.Prefix+path, query, mark)
		}
	}
}

func checkReflection(t *testing.T, c *clinic, method, target string, query url.Values, mark string) {
	t.Helper()
	r := httptest.NewRequest(method, target+"?"+query.Encode(), strings.NewReader(query.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Accept-Language", mark)
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	if strings.Contains(w.Body.String(), "<svg") || strings.Contains(fmt.Sprint(w.Header()), "<svg") || w.Code >= 500 {
		t.Errorf("%s %s: %d\n%s", method, target, w.Code, w.Body)
	}
}

func TestDisabledMeanwhile(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	p := b.typed(oscar + "/oscar/x")
	p = b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	if err := c.db.Identity().SetDisabled(context.Background(), "maple", c.lee.ID, true); err != nil {
		t.Fatal(err)
	}
	p = b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(t)}})
	if p.url.Path != "/code" || b.cookie("signin.maple.example", session.CookieReference) != "" {
		t.Errorf("a disabled user got to %s", p.url)
	}
}

func TestAUserOfOneClinicIsNobodyAtAnother(t *testing.T) {
	c := newClinic(t)
	b := newBrowser(t, c)
	c.signInAs(b, "dr.lee@maple.example", "/oscar/x")
	p := b.typed("https://oscar.birch.example:8443/oscar/x")
	if p.url.Hostname() != "signin.birch.example" {
		t.Fatalf("%s: %q", p.url, p.text())
	}
	sent := c.mail.count()
	b.submit(p, "/email", url.Values{"email": {"dr.lee@maple.example"}})
	if c.mail.count() != sent {
		t.Error("sent a code to somebody of another clinic")
	}
	// The reference itself counts at its own clinic and host only.
	value := b.cookie("oscar.maple.example", session.CookieReference)
	for _, host := range []string{"oscar.birch.example", "other.maple.example"} {
		r := httptest.NewRequest("GET", "https://"+host+"/oscar/x", nil)
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: value})
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther {
			t.Errorf("%s takes a reference of another host: %d", host, w.Code)
		}
	}
}
