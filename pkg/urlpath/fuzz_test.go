package urlpath

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/", "/a/%78.jsp?b[]=1", "/a/..;/b", "/%c3%a9", "//a", "/a;jsessionid=F0", "*", "/a/%2e", "/[x]/%5B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		strict, err := Parse(raw, Options{RefuseSessionID: true})
		if at := parts(raw); at.Canonical() != (err == nil && strict == at) {
			t.Fatalf("%q is read as %+v (%v), and canonical: %t", raw, strict, err, at.Canonical())
		}
		got, err := Parse(raw, Options{})
		if err != nil {
			return
		}
		again, err := Parse(got.String(), Options{RefuseSessionID: true})
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q became %q, which became %q: %v", raw, got, again, err)
		}
		if got.SessionIDStripped = false; !got.Canonical() {
			t.Fatalf("%q is not canonical", got)
		}
		// Cleaning, as some servers do, must find nothing to clean, before and after decoding.
		u, err := url.ParseRequestURI(got.Path)
		if err != nil || u.Path == "" {
			t.Fatalf("%q: %v", got.Path, err)
		}
		for _, p := range []string{got.Path, u.Path} {
			if c := path.Clean(p); c != p && c+"/" != p {
				t.Fatalf("%q cleans to %q", p, c)
			}
		}
		if strings.ContainsAny(u.Path, ";\\%") {
			t.Fatalf("%q decodes to %q", got.Path, u.Path)
		}
		if got.HasQuery && !strings.HasSuffix(raw, "?"+got.RawQuery) {
			t.Fatalf("the query of %q changed to %q", raw, got.RawQuery)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"a=1&a=2", "%64=7;x", "&&=", "a=%zz", "a+b=%20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := ParseQuery(raw)
		if err != nil {
			return
		}
		// Where nothing but "&" separates, the standard library must read the same.
		if strings.Contains(raw, ";") {
			return
		}
		std, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("%q: accepted, but %v", raw, err)
		}
		n := 0
		for name, values := range std {
			if all := got.All(name); strings.Join(all, "\x00") != strings.Join(values, "\x00") {
				t.Fatalf("%q: %q is %q, not %q", raw, name, all, values)
			}
			n += len(values)
		}
		if n != len(got) {
			t.Fatalf("%q: %d parameters, not %d", raw, len(got), n)
		}
	})
}
