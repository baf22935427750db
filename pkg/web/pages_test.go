package web_test

import (
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"

	"github.com/sallyport-dev/sallyport/pkg/web"
)

func newPages(t *testing.T) *web.Pages {
	t.Helper()
	p, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// codes are all that a page may be asked for.
var codes = []string{ // not changed after
	"E-TUNNEL-DOWN", "E-PROTOCOL", "E-ORIGIN-REFUSED", "E-ORIGIN-TIMEOUT", "E-ORIGIN-BUSY", "E-ORIGIN-TLS", "E-ORIGIN-PROTOCOL", "E-ORIGIN-ABORT",
	"E-NO-RULE", "E-CLIENT-ABORT", "E-DENIED", "E-REVOKED", "E-CROSS-SITE", "E-NOT-FOUND", "E-WRONG-HOST", "E-BAD-REQUEST",
	"E-METHOD", "E-HEADERS", "E-WEBSOCKET", "E-TOO-LARGE", "E-OVERLOAD", "E-RECORD", "E-STORE", "E-ASSERTION", "E-INTERNAL", "E-something-new",
}

const hostile = `"><script>alert(1)</script>'&{{.}}`

func navigation(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Accept-Language", "fr-CA,fr;q=0.9,en;q=0.5")
	return r
}

// everyPage renders each page once, with hostile text wherever a page takes any.
func everyPage(t *testing.T, p *web.Pages) map[string]*httptest.ResponseRecorder {
	t.Helper()
	out := map[string]*httptest.ResponseRecorder{}
	draw := func(name string, f func(w http.ResponseWriter, r *http.Request)) {
		w := httptest.NewRecorder()
		f(w, navigation("GET", "/"))
		out[name] = w
	}
	door := web.Door{Clinic: hostile, App: hostile, Host: hostile, RequestID: hostile}
	for _, problem := range []string{"", "signin.bad-address", "signin.too-many", "signin.expired", "signin.elsewhere"} {
		draw("signin "+problem, func(w http.ResponseWriter, r *http.Request) {
			p.SignIn(w, r, 200, web.SignIn{Door: door, To: hostile, Email: hostile, Problem: problem})
		})
	}
	for _, problem := range []string{"", "code.wrong", "code.form", "code.too-many", "code.again.limit"} {
		draw("code "+problem, func(w http.ResponseWriter, r *http.Request) {
			p.Code(w, r, 200, web.Code{Door: door, To: hostile, Email: hostile, Problem: problem, Sent: problem == "", Minutes: 10})
		})
	}
	draw("signedin", func(w http.ResponseWriter, r *http.Request) {
		p.SignedIn(w, r, web.SignedIn{Door: door, Email: hostile, Apps: []web.Link{{Text: hostile, URL: "https://oscar.example/"}}})
	})
	for _, name := range []string{
		web.NoticeSignedOut, web.NoticeSignOut, web.NoticeExpired, web.NoticeElsewhere, web.NoticeNotSaved, web.NoticeFrame, web.NoticeBack,
		web.NoticeOpening, web.NoticeContinue, web.NoticeTooBig, web.NoticeUnavailable, web.NoticeAway,
	} {
		draw("notice "+name, func(w http.ResponseWriter, r *http.Request) {
			p.Notice(w, r, web.Notice{Door: door, Status: 200, Name: name, URL: "/x?" + hostile, Post: name == web.NoticeSignOut})
		})
	}
	for _, code := range codes {
		draw("error "+code, func(w http.ResponseWriter, r *http.Request) {
			p.Error(w, r, web.Problem{Code: code, Clinic: hostile, App: hostile, RequestID: hostile})
		})
	}
	return out
}

func TestEveryPageIsSafeLightAndWhole(t *testing.T) {
	p := newPages(t)
	key := regexp.MustCompile(`>\s*[a-z]+\.[a-z.-]+\s*<`) // a key without words shows itself
	style := httptest.NewRecorder()
	p.Style().ServeHTTP(style, httptest.NewRequest("GET", p.StylePath(), nil))
	for name, w := range everyPage(t, p) {
		t.Run(name, func(t *testing.T) {
			body := w.Body.String()
			if strings.Contains(body, "<script") || strings.Contains(body, "{{") && !strings.Contains(body, "{{.}}") {
				t.Errorf("unescaped text:\n%s", body)
			}
			if found := key.FindString(body); found != "" || strings.Contains(body, "%!") {
				t.Errorf("text without words: %q", found)
			}
			if strings.Contains(body, "style=") || regexp.MustCompile(`\son[a-z]+=`).MatchString(body) {
				t.Error("inline style or handler, which the policy forbids")
			}
			for _, want := range []string{`<html lang="en">`, `name="viewport"`, "<main>", "<h1", "</html>", p.StylePath()} {
				if !strings.Contains(body, want) {
					t.Errorf("lacks %s", want)
				}
			}
			if total := len(body) + style.Body.Len(); total > 30<<10 {
				t.Errorf("%d bytes in all, want at most 30 KiB", total)
			}
			checkHeaders(t, w.Header())
		})
	}
}

func checkHeaders(t *testing.T, h http.Header) {
	t.Helper()
	csp := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors '"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy %q lacks %q", csp, want)
		}
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestSignInPagesCannotBeFramedAndNameWhereTheFormLeads(t *testing.T) {
	p := newPages(t)
	w := httptest.NewRecorder()
	p.Code(w, navigation("GET", "/code"), 200, web.Code{FormAction: []string{"https://oscar.maple.example:8443"}})
	csp := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(csp, "frame-ancestors 'none'") || !strings.HasSuffix(csp, "form-action 'self' https://oscar.maple.example:8443") {
		t.Errorf("policy %q", csp)
	}
	for _, want := range []string{`autocomplete="one-time-code"`, `inputmode="numeric"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("code field lacks %s", want)
		}
	}
}

// Every key that a template or a page uses has words in every table, and no table has words that nothing uses.
func TestEveryKeyHasWords(t *testing.T) {
	used := map[string]bool{}
	literal := regexp.MustCompile(`\bt "([a-z.-]+)"`)
	err := fs.WalkDir(os.DirFS("pages"), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".html") {
			return err
		}
		text, err := os.ReadFile("pages/" + path)
		for _, found := range literal.FindAllStringSubmatch(string(text), -1) {
			used[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	source, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile(`"([a-z]+)((?:\.[a-z.-]+)?)"`)
	for _, name := range source {
		if name == "english.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range quoted.FindAllStringSubmatch(string(text), -1) {
			used[found[1]+found[2]] = true
			if found[2] == "" {
				for _, part := range []string{".title", ".text", ".action"} {
					used[found[1]+part] = true
				}
			}
		}
	}
	english := web.English().Texts
	if len(used) < 50 {
		t.Fatalf("found only %d keys: the search is broken", len(used))
	}
	for key := range english {
		// The keys of form problems come from login.
		if !used[key] && !strings.HasPrefix(key, "signin.") && !strings.HasPrefix(key, "code.") {
			t.Errorf("%s: words that no page uses", key)
		}
	}
	for key := range used {
		if _, ok := english[key]; !ok && literalKey(key) {
			t.Errorf("%s: used and without words", key)
		}
	}
}

// literalKey leaves out the strings of the sources that only look like keys.
func literalKey(key string) bool {
	for _, prefix := range []string{"signin.", "code.", "way.", "signedin."} {
		if strings.HasPrefix(key, prefix) && !strings.HasSuffix(key, ".html") && !strings.HasSuffix(key, ".action") &&
			!strings.HasSuffix(key, ".text") {
			return true
		}
	}
	return false
}

func TestAnotherLanguageIsAnotherTable(t *testing.T) {
	french := web.English()
	french.Tag = language.MustParse("fr-CA")
	texts := map[string]string{}
	for k, v := range french.Texts {
		texts[k] = v
	}
	texts["signin.send"] = "Envoyez-moi un code"
	french.Texts = texts
	p, err := web.New(web.English(), french)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{"fr-CA,fr;q=0.9": "Envoyez-moi", "fr": "Envoyez-moi", "de": "E-mail me", "": "E-mail me", strings.Repeat("x,", 5000): "E-mail me"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", header)
		w := httptest.NewRecorder()
		p.SignIn(w, r, 200, web.SignIn{})
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("Accept-Language %.20q: no %q", header, want)
		}
	}
}

func TestScriptsGetJSONAndPeopleGetAPage(t *testing.T) {
	p := newPages(t)
	for name, tc := range map[string]struct {
		header map[string]string
		page   bool
	}{
		"navigation":             {map[string]string{"Sec-Fetch-Mode": "navigate"}, true},
		"fetch":                  {map[string]string{"Sec-Fetch-Mode": "cors", "Accept": "text/html, */*"}, false},
		"old browser":            {map[string]string{"Accept": "text/html,application/xhtml+xml"}, true},
		"old jQuery":             {map[string]string{"Accept": "text/html, */*", "X-Requested-With": "XMLHttpRequest"}, false},
		"a program":              {map[string]string{"Accept": "application/json"}, false},
		"a program of few words": {nil, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		p.Error(w, r, web.Problem{Code: "E-ORIGIN-REFUSED", App: "OSCAR", RequestID: "REQ", RetryAfter: 1500 * time.Millisecond})
		if w.Code != 502 || w.Header().Get("Retry-After") != "2" {
			t.Errorf("%s: status %d, Retry-After %q", name, w.Code, w.Header().Get("Retry-After"))
		}
		if isPage := strings.HasPrefix(w.Header().Get("Content-Type"), "text/html"); isPage != tc.page {
			t.Errorf("%s: page %v, want %v", name, isPage, tc.page)
		}
		if !strings.Contains(html.UnescapeString(w.Body.String()), "The clinic's OSCAR is not answering") || !strings.Contains(w.Body.String(), "REQ") {
			t.Errorf("%s: does not say what and which:\n%s", name, w.Body)
		}
	}
}

func TestTheBrokenStopIsMarkedAndLaterOnesAreNot(t *testing.T) {
	p := newPages(t)
	if got := states(answerTo(p, "GET", web.Problem{Code: "E-TUNNEL-DOWN", App: "OSCAR"})); got != "working, working, not working, not reached" {
		t.Errorf("way: %s", got)
	}
	if strings.Contains(answerTo(p, "POST", web.Problem{Code: "E-TUNNEL-DOWN"}), "Try again</a>") {
		t.Error("offers to repeat a POST as a GET")
	}
}

// Whoever reads one of these pages calls somebody: it must be whoever looks after OSCAR, and not after the connection.
func TestWhatTheClinicsServerDoesIsNotPutOnTheConnection(t *testing.T) {
	p := newPages(t)
	for code, want := range map[string]struct{ title, stop string }{
		"E-ORIGIN-REFUSED":  {"The clinic's OSCAR is not answering", "not answering"},
		"E-ORIGIN-TIMEOUT":  {"The clinic's OSCAR is not answering in time", "not answering"},
		"E-ORIGIN-BUSY":     {"The clinic's OSCAR is busy", "too busy"},
		"E-ORIGIN-TLS":      {"The clinic's OSCAR could not be verified", "not working"},
		"E-ORIGIN-PROTOCOL": {"The clinic's OSCAR broke off its answer", "not working"},
		"E-ORIGIN-ABORT":    {"The clinic's OSCAR broke off its answer", "not working"},
	} {
		for _, method := range []string{"GET", "POST"} {
			body := answerTo(p, method, web.Problem{Code: code, App: "OSCAR"})
			if !strings.Contains(body, "<h1>"+want.title+"</h1>") {
				t.Errorf("%s %s: not titled %q:\n%s", method, code, want.title, body)
			}
			if got := states(body); got != "working, working, working, "+want.stop {
				t.Errorf("%s %s: way: %s", method, code, got)
			}
			if blame := regexp.MustCompile(`(?i)(connection|tunnel|internet)[^<]* (down|broke)|cannot be reached`).FindString(body); blame != "" {
				t.Errorf("%s %s: puts it on the connection: %q", method, code, blame)
			}
		}
	}
	if body := answerTo(p, "GET", web.Problem{Code: "E-TUNNEL-DOWN", App: "OSCAR"}); !strings.Contains(body, "The connection between Sallyport and the clinic is down") || strings.Contains(body, "not answering") {
		t.Errorf("the tunnel is down, and the page says\n%s", body)
	}
}

// An entry is lost by whoever leaves the window, so that the page offers no way that leads out of it.
func TestAnEntryIsSpokenOfAndItsWindowKept(t *testing.T) {
	p := newPages(t)
	for code, words := range map[string]string{
		"E-ORIGIN-REFUSED": "was not sent and is not saved", "E-ORIGIN-BUSY": "was not sent and is not saved",
		"E-ORIGIN-TIMEOUT": "may or may not be saved", "E-TUNNEL-DOWN": "may or may not be saved",
		"E-REVOKED": "may or may not be saved", "E-INTERNAL": "may or may not be saved", "E-CLIENT-ABORT": "may or may not be saved",
		"E-PROTOCOL": "may or may not be saved", "E-ORIGIN-ABORT": "may or may not be saved",
		"E-ASSERTION": "was not sent and is not saved", "E-OVERLOAD": "was not sent and is not saved",
		"E-RECORD": "was not sent and is not saved", "E-STORE": "was not sent and is not saved",
	} {
		body := answerTo(p, "POST", web.Problem{Code: code, App: "OSCAR"})
		if !strings.Contains(body, words) {
			t.Errorf("%s: does not say %q", code, words)
		}
		if links := regexp.MustCompile(`<a class="button[^>]*>`).FindAllString(body, -1); len(links) != 1 || !strings.Contains(links[0], `target="_blank"`) {
			t.Errorf("%s: leads away by %q", code, links)
		}
	}
}

func answerTo(p *web.Pages, method string, problem web.Problem) string {
	w := httptest.NewRecorder()
	p.Error(w, navigation(method, "/"), problem)
	return html.UnescapeString(w.Body.String())
}

// states are the words below the drawn way's stops.
func states(body string) string {
	var out []string
	for _, found := range regexp.MustCompile(`class="state">([^<]+)<`).FindAllStringSubmatch(body, -1) {
		out = append(out, found[1])
	}
	return strings.Join(out, ", ")
}

// The drawn way blames nobody wrongly: who is busy works, a page that is not there is no fault of a server's, and people are not broken.
func TestTheWayBlamesNobodyWrongly(t *testing.T) {
	p := newPages(t)
	for code, state := range map[string]string{
		"E-ORIGIN-BUSY": "too busy", "E-OVERLOAD": "too busy", "E-CLIENT-ABORT": "broke off", "E-ORIGIN-REFUSED": "not answering", "E-NO-RULE": "",
	} {
		body := answerTo(p, "GET", web.Problem{Code: code, App: "OSCAR"})
		if strings.Contains(body, "not working") || !strings.Contains(body, state) || (state == "") == strings.Contains(body, `class="way"`) {
			t.Errorf("%s: want %q in\n%s", code, state, body)
		}
	}
}
