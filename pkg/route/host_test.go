package route_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/route"
)

func TestCanonicalHost(t *testing.T) {
	for raw, want := range map[string]string{
		"oscar.maple.localhost":      "oscar.maple.localhost",
		"OSCAR.Maple.Localhost":      "oscar.maple.localhost",
		"oscar.maple.localhost.":     "oscar.maple.localhost",
		"oscar.maple.localhost:8443": "oscar.maple.localhost",
		"oscar.maple.localhost.:443": "oscar.maple.localhost",
		"localhost":                  "localhost",
		"3com.example":               "3com.example",
		"xn--clnique-9ya.example":    "xn--clnique-9ya.example",
		"XN--CLNIQUE-9YA.example":    "xn--clnique-9ya.example",
		"a--b.example":               "a--b.example",
	} {
		got, err := route.CanonicalHost(raw)
		if err != nil || got != want {
			t.Errorf("CanonicalHost(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
}

func TestCanonicalHostRefuses(t *testing.T) {
	for _, raw := range []string{
		"", ".", "..", ":", ":443", "a:", "a:0", "a:65536", "a:443443", "a:44x", "a:443:443", "a..", "a..b", ".a", "a.-b", "a-.b",
		"[::1", "[::1]", "[::1]:443", "::1", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "a.0x7f", "a.1", "1.2.3.4:443", "a.00",
		"a@b", "user:pw@b", "a/b", "a\\b", "a b", " a", "a ", "a\t", "a\x00b", "a%62", "a,b", "a;b", "a?b", "a#b", "a_b.example", "*.example",
		"xn--example-.com", "xn--.com", "xn--a.com", "XN--example-.com", "xn--zz--.com", "ｏscar.maple", "оscar.maple", "é.example", "a。b",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "aa",
	} {
		if got, err := route.CanonicalHost(raw); !fault.Is(err, fault.Invalid) {
			t.Errorf("CanonicalHost(%q) = %q, %v; want a refusal", raw, got, err)
		}
	}
}

func TestParseHostTakesItsOwnScript(t *testing.T) {
	got, err := route.ParseHost("Clínique.example")
	if err != nil || got != "xn--clnique-8ya.example" {
		t.Errorf("ParseHost = %q, %v", got, err)
	}
	for _, text := range []string{"https://a.example", "a.example:443", "a b", "*.a.example", "10.0.0.1", ""} {
		if got, err := route.ParseHost(text); err == nil {
			t.Errorf("ParseHost(%q) = %q, want an error", text, got)
		}
	}
}

// FuzzCanonicalHost asserts that a canonical form is canonical again and of the narrow alphabet.
func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"a.example:443", "xn--clnique-9ya.example", "[::1", "a@b", "A.", "xn--example-.com", "1.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		host, err := route.CanonicalHost(raw)
		if err != nil {
			return
		}
		if again, err := route.CanonicalHost(host); err != nil || again != host {
			t.Errorf("%q gave %q, which gives %q, %v", raw, host, again, err)
		}
		if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || len(host) > 253 || host == "" {
			t.Errorf("%q gave %q", raw, host)
		}
	})
}
