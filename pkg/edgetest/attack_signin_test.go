package edgetest

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/session"
)

const signInHost = "signin.maple.localhost"

// Signing in, being refused and starting afresh, for those who mean no good and for those whose browser holds too much.
func TestStrangersAtTheDoor(t *testing.T) {
	k := newKnocker(t, Options{})
	for _, c := range []struct {
		name string
		f    func(*knocker)
	}{
		{"destinations", destinations},
		{"garbage cookies", garbageCookies},
		{"answers to credentials", answersToCredentials},
		{"too many cookies", tooManyCookies},
		{"shared browser", sharedBrowser},
		{"bodies of strangers", strangersBodies},
		{"rubbish references", rubbishReferences}, // last: it spends what strangers may ask
	} {
		t.Run(c.name, func(t *testing.T) { c.f(k.on(t)) })
	}
}

// destinations: after signing in nobody ends up anywhere but in the app. Attack case F17.
func destinations(k *knocker) {
	v := k.w.Visitor()
	for _, to := range []string{
		"//elsewhere.example", `/\elsewhere.example`, "/%09/elsewhere.example", "https:elsewhere.example", `\elsewhere.example`, "%2f%2felsewhere.example",
		"https://oscar.maple.localhost.evil.example/", "javascript:alert(1)", "https://oscar.birch.localhost/", strings.Repeat("A", 20<<10),
	} {
		for _, where := range []string{k.w.HostURL(signInHost, "/?to="+url.QueryEscape(to)), k.w.URL("/.sallyport/redeem?code=x&to=" + url.QueryEscape(to))} {
			resp, err := v.Navigate(k.t.Context(), where)
			if err != nil {
				k.t.Fatal(err)
			}
			page, err := ReadAll(resp)
			if at := resp.Request.URL.Hostname(); err != nil || at != AppHost && at != signInHost || strings.Contains(page, "elsewhere.example") || strings.Contains(page, "javascript:") {
				k.t.Errorf("%.40q led to %s, %v", to, resp.Request.URL.Redacted(), err)
			}
			if strings.HasPrefix(where, k.w.URL("")) && resp.StatusCode < 400 {
				k.t.Errorf("%.40q was redeemed: %s", to, resp.Status)
			}
		}
	}
	// A target that only looks like one on this host is given up, a plain one kept with its query.
	email := Doctors()[5]
	for target, want := range map[string]string{"/oscar/echo/%2b?x=//elsewhere.example&to=/%5ce": "/oscar/echo/+?x=//elsewhere.example&to=/%5ce"} {
		v := k.w.Visitor()
		resp, err := v.SignIn(k.t.Context(), k.w.URL(target), email, k.w.Code(email))
		if err != nil {
			k.t.Fatal(err)
		}
		// The page that leads on: a navigation that starts on the app's own host brings the origin's strict cookies along.
		if page, err := ReadAll(resp); err != nil || !strings.Contains(html.UnescapeString(page), want) || resp.Request.URL.Hostname() != AppHost {
			k.t.Errorf("%s led to %s, %v: %s", target, resp.Request.URL.Host, err, page)
		}
	}
}

// garbageCookies lead to sign-in and never in. Attack case F21.
func garbageCookies(k *knocker) {
	d := k.w.SignIn()
	good, access := d.Cookie(k.w.URL("/"), session.CookieReference), d.Cookie(k.w.URL("/"), session.CookieAccess)
	ref, at := session.CookieReference+"=", session.CookieAccess+"="
	k.untouched(func() {
		for _, cookie := range []string{
			ref + "x", ref + good[:len(good)-1], ref + good + "x", ref + strings.ToUpper(good), ref + strings.Repeat("A", 6000),
			ref + good + "; " + ref + "x", ref + "x; " + ref + good, ref, "__host-http-sallyport=" + good, " =" + good, at + access, at + "a.b.c",
			ref + good + "; " + at + "a.b.c", ref + good + "; " + at + access + "; " + at + access, ref + good + "; " + at + access[:len(access)-9],
		} {
			a := k.must("GET /oscar/echo HTTP/1.1\r\nHost: " + k.host() + "\r\nCookie: " + cookie + "\r\n\r\n")
			if a.status != http.StatusUnauthorized {
				k.t.Errorf("%.60q: %d", cookie, a.status)
			}
		}
	})
}

// answersToCredentials: a form with a credential is answered by 303, so that no browser sends it on; pages that forget do
// so. Attack cases F18, F22.
func answersToCredentials(k *knocker) {
	v := k.w.Visitor()
	email := Doctors()[4]
	resp, err := v.Navigate(k.t.Context(), k.w.URL("/oscar/index.jsp"))
	if err != nil {
		k.t.Fatal(err)
	}
	form, err := v.form(resp)
	if err != nil {
		k.t.Fatal(err)
	}
	code := k.w.Code(email)
	post := func(path string) *http.Response {
		k.t.Helper()
		req, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.w.HostURL(signInHost, path), strings.NewReader(form.Encode()))
		if err != nil {
			k.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		resp, err := v.Client.Do(req)
		if err != nil {
			k.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther && resp.StatusCode != http.StatusOK {
			k.t.Errorf("%s: %s", path, resp.Status)
		}
		return resp
	}
	form.Set("email", email)
	post("/email")
	ctx, cancel := withPatience(k.t)
	defer cancel()
	digits, err := code(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	form.Set("code", digits)
	if resp := post("/code"); resp.StatusCode != http.StatusSeeOther {
		k.t.Errorf("a right code: %s", resp.Status)
	}

	d := k.w.SignIn()
	out, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.w.URL("/.sallyport/sign-out"), nil)
	if err != nil {
		k.t.Fatal(err)
	}
	out.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err = d.Client.Do(out)
	if err != nil {
		k.t.Fatal(err)
	}
	_ = resp.Body.Close()
	gone := map[string]bool{}
	for _, c := range resp.Cookies() {
		gone[c.Name] = c.MaxAge < 0
	}
	if resp.StatusCode != http.StatusSeeOther || !gone[session.CookieReference] || !gone[session.CookieAccess] {
		k.t.Errorf("signing out: %s, %v", resp.Status, resp.Header["Set-Cookie"])
	}
	if d.Cookie(k.w.URL("/"), session.CookieReference) != "" {
		k.t.Error("the browser keeps its sign-in")
	}
}

// tooManyCookies: a browser that holds more than the application takes gets a page with a way out, and the way leads out.
// Attack case E4.
func tooManyCookies(k *knocker) {
	few, many := strings.Repeat("x", 1500), "x"
	for name, cookies := range map[string]struct {
		n     int
		value string
	}{"long ones": {6, few}, "many": {80, many}, "all that the edge takes": {15, strings.Repeat("x", 2000)}} {
		k.t.Run(name, func(t *testing.T) {
			v := k.on(t).w.SignIn()
			u, err := url.Parse(k.w.URL("/"))
			if err != nil {
				t.Fatal(err)
			}
			var set []*http.Cookie
			for i := range cookies.n {
				set = append(set, &http.Cookie{Name: fmt.Sprint("c", i), Value: cookies.value, Path: "/", Secure: true})
			}
			v.Client.Jar.SetCookies(u, set)
			resp, err := v.Navigate(t.Context(), k.w.URL("/oscar/index.jsp"))
			if err != nil {
				t.Fatal(err)
			}
			page, err := ReadAll(resp)
			if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(page, `action="/.sallyport/clear"`) {
				t.Fatalf("%s, %v: %.600s", resp.Status, err, page)
			}
			resp, err = v.Submit(t.Context(), k.w.URL("/.sallyport/clear"), url.Values{})
			if err != nil {
				t.Fatal(err)
			}
			if page, err := ReadAll(resp); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("after clearing: %s at %s, %v: %.300s", resp.Status, resp.Request.URL.Redacted(), err, page)
			}
			for _, c := range v.Client.Jar.Cookies(u) {
				if strings.HasPrefix(c.Name, "c") {
					t.Errorf("%s is left", c.Name)
				}
			}
		})
	}
}

// sharedBrowser: who signs in after somebody else at the same browser does not find that one's application open.
func sharedBrowser(k *knocker) {
	v := k.w.SignIn()
	enter := func() {
		resp, err := v.Submit(k.t.Context(), k.w.URL("/oscar/login.do"), url.Values{"username": {"oscardoc"}, "password": {"mac2002"}, "pin": {"1117"}})
		if err != nil {
			k.t.Fatal(err)
		}
		if page, err := ReadAll(resp); err != nil || !strings.Contains(page, "Day sheet") {
			k.t.Fatalf("%s, %v: %.300s", resp.Status, err, page)
		}
	}
	enter()
	if v.Cookie(k.w.URL("/oscar/"), "JSESSIONID") == "" {
		k.t.Fatal("the application gave no session: this test shows nothing")
	}
	resp, err := v.Submit(k.t.Context(), k.w.URL("/.sallyport/sign-out"), url.Values{})
	if err != nil {
		k.t.Fatal(err)
	}
	_, _ = ReadAll(resp)
	if v.Cookie(k.w.URL("/oscar/"), "JSESSIONID") != "" {
		k.t.Error("the browser keeps the application's session")
	}
}

// strangersBodies are not taken in, however many come at once. Attack case E10.
func strangersBodies(k *knocker) {
	const size, parallel = 256 << 20, 8
	before := k.w.Heap(k.w.Edge)
	var wg sync.WaitGroup
	for i := range parallel {
		host, target := signInHost, "/email"
		if i%2 == 1 {
			host, target = AppHost, "/oscar/CaseManagementEntry.do"
		}
		wg.Go(func() {
			conn, err := k.dial(host, "http/1.1")
			if err != nil {
				k.t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", target, host, size)
			if sent, err := io.Copy(conn, io.LimitReader(zeros{}, size)); err == nil {
				k.t.Errorf("%s%s took %d bytes of a stranger", host, target, sent)
			}
		})
	}
	wg.Wait()
	if after := k.w.Heap(k.w.Edge); after > before+(48<<20) {
		k.t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// rubbishReferences: a stranger who makes cookies up is slowed down before the store hears of it; who is signed in, at the
// same address, goes on. Attack case F1.
func rubbishReferences(k *knocker) {
	d := k.w.SignIn()
	reference := session.CookieReference + "=" + d.Cookie(k.w.URL("/"), session.CookieReference)
	c := k.wire1(AppHost)
	ask := func(cookie string) int {
		k.t.Helper()
		_ = c.SetDeadline(time.Now().Add(Patience))
		if _, err := fmt.Fprintf(c, "GET /oscar/wire/status?code=204 HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", k.host(), cookie); err != nil {
			k.t.Fatal(err)
		}
		a, err := c.read(http.MethodGet)
		if err != nil {
			k.t.Fatal(err)
		}
		return a.status
	}
	if got := ask(reference); got != http.StatusNoContent {
		k.t.Fatalf("signed in: %d", got)
	}
	slowed := false
	for range 5000 {
		if ask(session.CookieReference+"="+session.NewSecret()) == http.StatusTooManyRequests {
			slowed = true
			break
		}
	}
	if !slowed {
		k.t.Error("5000 made-up references were all looked up")
	}
	if got := ask(reference); got != http.StatusNoContent {
		k.t.Errorf("signed in, beside a stranger: %d", got)
	}
}
