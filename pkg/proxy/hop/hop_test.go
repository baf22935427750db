package hop

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func TestCleanIsTheSameOnBothSidesOfTheTunnel(t *testing.T) {
	got := CleanRequest(wire.Header{
		{Name: "accept", Value: "*/*"},
		{Name: "cookie", Value: "a=1; __Host-Http-sallyport=x"},
		{Name: "X-FORWARDED-FOR", Value: "127.0.0.1"},
		{Name: "sallyport-assertion", Value: "forged"},
		{Name: "X_User", Value: "x"},
		{Name: "Cookie", Value: "__Host-Http-sallyport=x"},
	})
	want := wire.Header{{Name: "Accept", Value: "*/*"}, {Name: "Cookie", Value: "a=1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	got = CleanAnswer(wire.Header{
		{Name: "set-cookie", Value: "__Secure-Sallyport=1"},
		{Name: "set-cookie", Value: "b=2"},
		{Name: "service-worker-allowed", Value: "/"},
		{Name: "Set-Cookie", Value: "a=1; Secure"},
	})
	want = wire.Header{{Name: "Set-Cookie", Value: "b=2; Secure"}, {Name: "Set-Cookie", Value: "a=1; Secure"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestTrailerName(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Digest": true, "Server-Timing": true, "x-forwarded-for": false, "Cookie": false, "Set-Cookie": false, "Content-Length": false,
		"Authorization": false, "Sallyport-Assertion": false, "X_Oscar": false, "Location": false, "": false,
	} {
		if got := TrailerName(name); got != want {
			t.Errorf("TrailerName(%q) = %t", name, got)
		}
	}
}

func TestConnectionNames(t *testing.T) {
	got := Connection(http.Header{"Connection": {"close, X-A", " x-b ,Upgrade"}})
	if diff := cmp.Diff(map[string]bool{"X-A": true, "X-B": true, "Close": true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLocation(t *testing.T) {
	const public = "oscar.maple.example:8443"
	for _, c := range []struct {
		value, want string
		verdict     Verdict
	}{
		{"", "", Kept},
		{"x.jsp", "x.jsp", Kept},
		{"?a=http://10.0.0.1/", "?a=http://10.0.0.1/", Kept},
		{`/x?path=C:\a`, `/x?path=C:\a`, Kept},
		{"https://oscar.maple.example:8443/x", "https://oscar.maple.example:8443/x", Kept},
		{"https://127.0.0.1/x", "https://" + public + "/x", Rewritten},
		{"https://[::1]:8443/x#f", "https://" + public + "/x#f", Rewritten},
		{"https://[::ffff:10.1.1.1]/x", "https://" + public + "/x", Rewritten},
		{"http://169.254.1.1", "https://" + public + "/", Rewritten},
		{"http://100.64.1.1?a", "https://" + public + "/?a", Rewritten},
		{"http://2130706433/x", "https://" + public + "/x", Rewritten},
		{"http://127.1/x", "https://" + public + "/x", Rewritten},
		{"http://a.0x7f/x", "https://" + public + "/x", Rewritten},
		{"http://tomcat.clinic.local/x", "https://" + public + "/x", Rewritten},
		{"http://LOCALHOST./x", "https://" + public + "/x", Rewritten},
		{"http://user@10.0.0.1/x", "https://" + public + "/x", Rewritten},
		{"https://app.example.com@evil.example/", "", Blocked},
		{"//oscar.maple.example/x", "https://" + public + "/x", Rewritten},
		{"///10.0.0.1/x", "", Blocked},
		{"https:///10.0.0.1/", "", Blocked},
		{"https:/10.0.0.1/", "", Blocked},
		{"HTTPS://10.0.0.1/x", "https://" + public + "/x", Rewritten},
		{"\thttps://10.0.0.1/x", "https://" + public + "/x", Rewritten},
		{"ht\ttps://10.0.0.1/x", "", Blocked},
		{"/a\r\nX: y", "", Blocked},
		{"data:text/html,x", "", Blocked},
		{"clinicapp://callback?code=1", "clinicapp://callback?code=1", Kept},
		{"smb://10.0.0.1/share", "", Blocked},
		{"com.example.app://login.example.com/cb", "com.example.app://login.example.com/cb", Kept},
		{"mailto:a@b.example", "mailto:a@b.example", Kept},
	} {
		got, verdict := Location(c.value, public, "tomcat.example.net:8080")
		if got != c.want || verdict != c.verdict {
			t.Errorf("Location(%q) = %q, %d; want %q, %d", c.value, got, verdict, c.want, c.verdict)
		}
	}
	if got, v := Location("http://tomcat.example.net/x", public, "tomcat.example.net:8080"); v != Rewritten || got != "https://"+public+"/x" {
		t.Errorf("the origin's own name: %q, %d", got, v)
	}
}

func TestRefresh(t *testing.T) {
	const public = "oscar.maple.example"
	for _, c := range []struct {
		value, want string
		verdict     Verdict
	}{
		{"5", "5", Kept},
		{"5; url=/x", "5; url=/x", Kept},
		{"0;URL='http://10.0.0.1/x'", "0;url=https://oscar.maple.example/x", Rewritten},
		{"0; url=javascript:x", "0; url=javascript:x", Blocked},
		// Browsers need neither "url=" nor a semicolon (HTML, shared declarative refresh steps).
		{"0; http://10.0.0.1/x", "0; url=https://oscar.maple.example/x", Rewritten},
		{"0,http://10.0.0.1/?url=/x", "0,url=https://oscar.maple.example/?url=/x", Rewritten},
		{" 0 url = \"http://10.0.0.1/x\"", " 0 url=https://oscar.maple.example/x", Rewritten},
		{"0;//evil.example/", "0;//evil.example/", Blocked},
		{"5;", "5;", Kept},
		{"5; /urlaub", "5; /urlaub", Kept},
	} {
		if got, v := Refresh(c.value, public); got != c.want || v != c.verdict {
			t.Errorf("Refresh(%q) = %q, %d", c.value, got, v)
		}
	}
}

// What passes never leads a browser to an address inside.
func FuzzLocation(f *testing.F) {
	for _, s := range []string{"/x", "//h/x", "http://10.0.0.1/", `/\x`, "http:x", "a:b", "https://%31.2", "//[::1]/", "http://①②⑦.0.0.1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, verdict := Location(s, "oscar.maple.example")
		if verdict == Blocked {
			return
		}
		again, second := Location(got, "oscar.maple.example")
		if second != Kept || again != got {
			t.Fatalf("%q → %q is not settled: %q, %d", s, got, again, second)
		}
		base, _ := url.Parse("https://oscar.maple.example/oscar/x")
		u, err := base.Parse(got)
		if err != nil {
			return
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.IsPrivate() || a.IsLoopback()) {
			t.Fatalf("%q → %q leads to %s", s, got, a)
		}
	})
}

// None of our cookies leaves in either direction, and the bytes of the others stay.
func FuzzCookies(f *testing.F) {
	for _, s := range []string{"a=1; b=2", "__Host-Http-sallyport=x", ";;=a", `a="x; __Host-sallyport=1"`, "=__Host-sallyport=1", "\t__host-sallyport"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kept, ok := Cookies(s, session.IsOurs)
		if !ok {
			kept = ""
		}
		for part := range strings.SplitSeq(kept, ";") {
			name, _, _ := strings.Cut(strings.Trim(part, " \t"), "=")
			if session.IsOurs(name) {
				t.Fatalf("%q let %q through", s, part)
			}
			if !strings.Contains(s, strings.Trim(part, " \t")) {
				t.Fatalf("%q was changed to %q", s, part)
			}
		}
		if line, ok := SetCookie(s, session.IsOurs); ok {
			name, value, _ := strings.Cut(strings.SplitN(line, ";", 2)[0], "=")
			if session.IsOurs(strings.TrimSpace(name)) || strings.TrimSpace(name) == "" && session.IsOurs(strings.TrimSpace(value)) {
				t.Fatalf("%q set %q", s, line)
			}
			if !strings.Contains(strings.ToLower(line), "secure") || strings.Contains(strings.ToLower(line), "; domain=") {
				t.Fatalf("%q became %q", s, line)
			}
		}
	})
}
