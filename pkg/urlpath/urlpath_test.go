package urlpath

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

func TestParseAcceptsWhatHasOneReading(t *testing.T) {
	for raw, want := range map[string]Target{
		"/":                                    {Path: "/"},
		"/?":                                   {Path: "/", HasQuery: true},
		"/a/b.jsp":                             {Path: "/a/b.jsp"},
		"/a/":                                  {Path: "/a/"},
		"/a/.../b..c/.d":                       {Path: "/a/.../b..c/.d"},
		"/a/%78.jsp":                           {Path: "/a/x.jsp"},
		"/a/%c3%a9/caf%C3%A9":                  {Path: "/a/%C3%A9/caf%C3%A9"},
		"/a%20b/c+d":                           {Path: "/a%20b/c+d"},
		"/a/%23%3f":                            {Path: "/a/%23%3F"},
		"/a/[x]":                               {Path: "/a/%5Bx%5D"},
		"/a/%5bx%5d%22%7B":                     {Path: "/a/%5Bx%5D%22%7B"},
		"/a/b:c@d,e=f!$&'()*~-_":               {Path: "/a/b:c@d,e=f!$&'()*~-_"},
		"/a?b[]=1&c=%zz;&d={|}^\"":             {Path: "/a", RawQuery: "b[]=1&c=%zz;&d={|}^\"", HasQuery: true},
		"/a?x=/../b?c":                         {Path: "/a", RawQuery: "x=/../b?c", HasQuery: true},
		"/a;jsessionid=0AF9.n1":                {Path: "/a", SessionIDStripped: true},
		"/a/;jsessionid=0AF9?b=c":              {Path: "/a/", RawQuery: "b=c", HasQuery: true, SessionIDStripped: true},
		"/a?x=;jsessionid=0AF9":                {Path: "/a", RawQuery: "x=;jsessionid=0AF9", HasQuery: true},
		"/" + strings.Repeat("a", MaxTarget-1): {Path: "/" + strings.Repeat("a", MaxTarget-1)},
	} {
		got, err := Parse(raw, Options{})
		if err != nil {
			t.Errorf("%.60q: %v", raw, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.60q (-want +got):\n%s", raw, diff)
		}
	}
}

func TestParseRefusesWhatHasTwo(t *testing.T) {
	for raw, want := range map[string]Reason{
		"": NotOrigin, "*": NotOrigin, "a/b": NotOrigin, "http://a.example/b": NotOrigin, "a.example:443": NotOrigin, "?a": NotOrigin,
		"/" + strings.Repeat("a", MaxTarget): TooLong,
		"/a b":                               BadByte, "/a\tb": BadByte, "/a\x00": BadByte, "/a\x7f": BadByte, "/é": BadByte, "/a#b": BadByte, "/a?b#c": BadByte, "/a?é": BadByte,
		"/a\\b": BadByte, "/a;b": BadByte, "/a;x=1/b": BadByte, "/;/a": BadByte, "/..;/a": BadByte, "/..;a=b/c": BadByte, "/.;/..;/a": BadByte,
		"/a\"": BadByte, "/a<": BadByte, "/a>": BadByte, "/a^": BadByte, "/a`": BadByte, "/a{": BadByte, "/a|": BadByte, "/a}": BadByte,
		"/a;jsessionid=": BadByte, "/a;jsessionid=x-y": BadByte, "/a;jsessionid=x/b": BadByte, "/a;JSESSIONID=x": BadByte,
		"/a;jsessionid=x;jsessionid=y": BadByte, "/a;y;jsessionid=x": BadByte, "/;/../a;jsessionid=x": BadByte,
		"/%": BadEscape, "/%4": BadEscape, "/%zz": BadEscape, "/%4g": BadEscape, "/%-1": BadEscape, "/%u0041": BadEscape,
		"/%2e%2e/a": Escaped, "/a%2Fb": Escaped, "/a%5cb": Escaped, "/%252e": Escaped, "/a%3bb": Escaped, "/x%2ejsp": Escaped,
		"/a%00": Escaped, "/a%0d%0a": Escaped, "/a%7f": Escaped, "/%2e%2e%3b/a": Escaped,
		"/./a": DotSegment, "/../a": DotSegment, "/a/..": DotSegment, "/a/.": DotSegment, "/a/../b": DotSegment, "/a/..;jsessionid=x": DotSegment,
		"//": EmptySegment, "//a": EmptySegment, "/a//b": EmptySegment, "/a//": EmptySegment,
		"/%ff": NotText, "/%c0%ae": NotText, "/%C2%85": NotText, "/%EF%BF%BD": NotText, "/%E2%80%A8": NotText, "/%ed%a0%80": NotText,
	} {
		_, err := Parse(raw, Options{})
		var refused *Error
		if !errors.As(err, &refused) || refused.Reason != want {
			t.Errorf("%.60q: got %v, want %s", raw, err, want)
		}
	}
}

func TestRefusedSessionID(t *testing.T) {
	if _, err := Parse("/a;jsessionid=0AF9", Options{RefuseSessionID: true}); err == nil {
		t.Error("accepted a session id that the options refuse")
	}
}

func TestTheErrorTellsAStrangerNothing(t *testing.T) {
	_, err := Parse("/a/..;/secret", Options{})
	if fault.CodeOf(err) != fault.Invalid {
		t.Errorf("code %s", fault.CodeOf(err))
	}
	if strings.Contains(fault.Public(err)+err.Error(), "secret") || strings.Contains(fault.Public(err), string(BadByte)) {
		t.Errorf("the words give away too much: %q, %q", fault.Public(err), err)
	}
}

func TestCanonical(t *testing.T) {
	for target, want := range map[string]bool{
		"/a/b?c[]=d%20e+f": true, "/a/%C3%A9": true, "/a?": true,
		"/a/%c3%a9": false, "/a/%78": false, "/a;jsessionid=x": false, "/a/../b": false, "": false, "/[": false,
	} {
		if got := parts(target).Canonical(); got != want {
			t.Errorf("%q: %v", target, got)
		}
	}
	for _, t2 := range []Target{{Path: "/a?b"}, {Path: "/a", RawQuery: "b"}, {Path: "/a#b"}, {Path: "/a", RawQuery: "b c", HasQuery: true}} {
		if t2.Canonical() {
			t.Errorf("%+v", t2)
		}
	}
	longest := Target{Path: "/" + strings.Repeat("a", MaxTarget-3), RawQuery: "b", HasQuery: true}
	if !longest.Canonical() {
		t.Error("the longest target is refused")
	}
	if longest.RawQuery = "bb"; longest.Canonical() {
		t.Error("a target that is too long is accepted")
	}
}

// parts is a target in its parts, whatever they are.
func parts(target string) (t Target) {
	t.Path, t.RawQuery, t.HasQuery = strings.Cut(target, "?")
	return t
}

func TestHasPrefixComparesSegments(t *testing.T) {
	for _, c := range []struct {
		path, prefix string
		want         bool
	}{
		{"/o/ws", "/o/ws", true},
		{"/o/ws/", "/o/ws", true},
		{"/o/ws/x", "/o/ws", true},
		{"/o/ws/x", "/o/ws/", true},
		{"/o/ws", "/o/ws/", true},
		{"/o/wsx", "/o/ws", false},
		{"/o/w", "/o/ws", false},
		{"/O/ws", "/o/ws", false},
		{"/o", "/", true},
		{"/", "/", true},
		{"/o", "", false},
		{"/o", "o", false},
		{"/o/ws%2Fx", "/o/ws", false},
	} {
		if got := HasPrefix(c.path, c.prefix); got != c.want {
			t.Errorf("HasPrefix(%q, %q) = %v", c.path, c.prefix, got)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for name, raw := range map[string]string{
		"usual":   "/oscar/provider/providercontrol.jsp?year=2026&month=5&day=4&view=0&displaymode=day&dboperation=searchappointmentday",
		"escaped": "/oscar/eform/caf%c3%a9%20au%20lait/image.png",
		"refused": "/oscar/index.jsp;/../admin/page.jsp",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(raw, Options{})
			}
		})
	}
}
