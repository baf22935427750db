package login

import (
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

func TestTargetsStayBelowTheApp(t *testing.T) {
	for _, tc := range []struct{ target, app, want string }{
		{"/oscar/x", "/oscar", "/oscar/x"},
		{"/oscar", "/oscar", "/oscar"},
		{"/oscar?x=1", "/oscar", "/oscar?x=1"},
		{"/oscarx", "/oscar", "/oscar"},
		{"/other", "/oscar", "/oscar"},
		{"/x", "/", "/x"},
		{"/.sallyport/back", "/oscar", "/.sallyport/back"},
		{"/.sallyport/back?x", "/oscar", "/oscar"},
	} {
		if got := landing(tc.target, tc.app); got != tc.want {
			t.Errorf("%s in %s: %s, want %s", tc.target, tc.app, got, tc.want)
		}
	}
}

// Whatever landing lets through leads a browser to the same host and to the path that was judged.
func FuzzLanding(f *testing.F) {
	for _, seed := range []string{"/", "//e", `/\e`, "/%09/e", "/a?b=//c", "/a%2e%2e/b", "/a;b/../c", "/.sallyport/redeem", "/x#y", "https:e"} {
		f.Add(seed)
	}
	base := &url.URL{Scheme: "https", Host: "oscar.maple.example", Path: "/"}
	f.Fuzz(func(t *testing.T, target string) {
		got := landing(target, "/")
		if got == "/" {
			return
		}
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q does not parse: %v", got, err)
		}
		at := base.ResolveReference(u)
		path, err := url.PathUnescape(strings.SplitN(got, "?", 2)[0])
		if err != nil || at.Scheme != base.Scheme || at.Host != base.Host || at.User != nil || at.Fragment != "" || at.Path != path {
			t.Errorf("%q leads to %s", got, at)
		}
		if strings.HasPrefix(at.Path, "/.sallyport/") && got != backPath {
			t.Errorf("%q leads to a page of ours", got)
		}
	})
}

// What a browser brings back opens only if this very tenant sealed it for this very purpose.
func FuzzOpenDestination(f *testing.F) {
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	l := New(Config{Sealer: sealer})
	good, err := l.sealJSON("maple", "to", destination{Host: "oscar.maple.example"})
	if err != nil {
		f.Fatal(err)
	}
	if l.openDestination("maple", good) == nil || l.openDestination("birch", good) != nil {
		f.Fatal("a good destination opens at its own tenant and nowhere else")
	}
	if l.openJSON("maple", "asked", good, &asked{}) {
		f.Fatal("a destination opens as a sign-in cookie")
	}
	f.Add(good)
	f.Add(good[:20])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if d := l.openDestination("maple", text); d != nil && d.Host != "oscar.maple.example" {
			t.Errorf("%q opens as %+v", text, d)
		}
	})
}

func TestOriginCookiesAreExpiredWhereTheyMayLie(t *testing.T) {
	l := New(Config{OriginCookies: []string{"A"}})
	h := appDoor{Login: l, app: tenant.App{Path: "/oscar", Landing: []string{"/kai/*", "/oscar/index.jsp", "/index.html", "/*"}}}
	got := map[string]bool{}
	for _, path := range h.originPaths() {
		got[path] = true
	}
	if len(got) != 3 || !got["/"] || !got["/oscar"] || !got["/kai"] {
		t.Errorf("paths %v", got)
	}
}
