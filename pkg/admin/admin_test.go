package admin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
)

// What crosses the socket is tested in adminapi, over a real store; these are the decisions of values.

func TestSignInHostsStandBesideTheEdge(t *testing.T) {
	for edge, want := range map[string]string{"edge.example.com": "example.com", "edge.localhost": "localhost", "localhost": "localhost"} {
		if got := parentDomain(edge); got != want {
			t.Errorf("%s: %s, want %s", edge, got, want)
		}
	}
}

func TestPathsThatNeverMatchAreRefused(t *testing.T) {
	if err := canonicalPaths([]string{"/", "/*", "/oscar", "/oscar/*", "/a%20b"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "oscar", "/a//b", "/a/../b", "/a;b", "/a?b", "/a#b", "/%61", "/a b", "https://x/", "/a\n"} {
		if err := canonicalPaths([]string{"/", bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNamesArePrintable(t *testing.T) {
	if got, err := name("name", "  Clinique Érable \t"); err != nil || got != "Clinique Érable" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "  ", "a\x1b[0m", "a\nb", "a\u2028b", "a\u0085b", "\xff", strings.Repeat("é", maxName+1)} {
		if got, err := name("name", bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q was accepted as %q", bad, got)
		}
	}
}

// A rule that allows nobody must not be read as one that names somebody, and a deny is no "may".
func TestWhoMayIsReadFromRules(t *testing.T) {
	emails := map[id.User]string{"usr_1": "dr.lee@maple.example"}
	got := whoOf([]policy.Rule{
		{ID: allowRule, Effect: policy.Allow, Include: []policy.Selector{
			{Kind: policy.UserPrincipal, ID: "usr_1"}, {Kind: policy.ServicePrincipal, ID: "booking"},
		}},
		{ID: "other", Effect: policy.Deny, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: "usr_2"}}},
	}, emails)
	if diff := cmp.Diff(Who{Users: []string{"dr.lee@maple.example"}, Services: []string{"booking"}}, got); diff != "" {
		t.Error(diff)
	}
}
