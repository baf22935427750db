package identity_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/identity"
)

func TestOneMailboxHasOneForm(t *testing.T) {
	for typed, want := range map[string]string{
		"dr.lee@maple.example":          "dr.lee@maple.example",
		"  Dr.Lee@MAPLE.Example\n":      "dr.lee@maple.example",
		"ｄｒ.lee@maple.example":          "dr.lee@maple.example",
		"e\u0301mile@clinique.example":  "émile@clinique.example",
		"ÉMILE@clinique.example":        "émile@clinique.example",
		"a+b@sub.maple.example":         "a+b@sub.maple.example",
		"lee@clinique-é.example":        "lee@xn--clinique--j4a.example",
		"lee@CLINIQUE-É.example":        "lee@xn--clinique--j4a.example",
		"lee@xn--clinique--j4a.example": "lee@xn--clinique--j4a.example",
		"o'neil@maple.example":          "o'neil@maple.example",
	} {
		got, err := identity.CanonicalEmail(typed)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{
		"", "lee", "lee@", "@maple.example", "lee@maple", "a@b@maple.example", "Dr Lee <lee@maple.example>", `"a b"@maple.example`, "lee@maple.example, roy@maple.example",
		"lee@maple.example\r\nBcc: x@y.example", "lee@[192.0.2.1]", "lee\x00@maple.example", "lee@maple..example", "lee@-maple.example", "lee(x)@maple.example",
		strings.Repeat("a", 250) + "@maple.example",
	} {
		if got, err := identity.CanonicalEmail(typed); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: accepted as %q, %v", typed, got, err)
		}
	}
}

func FuzzCanonicalEmail(f *testing.F) {
	for _, seed := range []string{"dr.lee@maple.example", "É@é.example", "a@b", "\"x\"@y.z", "a@xn--.example", "İ@x.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		once, err := identity.CanonicalEmail(typed)
		if err != nil {
			return
		}
		twice, err := identity.CanonicalEmail(once)
		if err != nil || twice != once {
			t.Errorf("%q → %q → %q, %v", typed, once, twice, err)
		}
		if strings.ContainsAny(once, "\r\n \t<>\",") || strings.Count(once, "@") != 1 {
			t.Errorf("%q → %q", typed, once)
		}
	})
}
