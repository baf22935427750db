package id_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

func TestLabelsAreDNSLabelsInLowerCase(t *testing.T) {
	for _, good := range []string{"a", "maple", "maple-2", "a0", strings.Repeat("a", 32)} {
		if got, err := id.ParseLabel[id.Tenant]("tenant", good); err != nil || string(got) != good {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{
		"", "-a", "a-", "1a", "Maple", "ma ple", "ma.ple", "ma_ple", "a/b", "maple\n", "\nmaple", "é", "a\x00", strings.Repeat("a", 33),
	} {
		got, err := id.ParseLabel[id.Tenant]("tenant", bad)
		if err == nil || got != "" {
			t.Errorf("%q was accepted as %q", bad, got)
		} else if !strings.HasPrefix(err.Error(), "tenant ") {
			t.Errorf("%q: the error does not say what is wrong: %v", bad, err)
		}
	}
}

func FuzzParseLabel(f *testing.F) {
	f.Add("maple")
	f.Add("a-")
	f.Fuzz(func(t *testing.T, s string) {
		label, err := id.ParseLabel[id.Site]("site", s)
		if err != nil {
			return
		}
		if string(label) != s || len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) }) {
			t.Errorf("%q was accepted as %q", s, label)
		}
	})
}

func TestIdentifiersCarryTheirKindAndSortByCreation(t *testing.T) {
	for prefix, fresh := range map[string]func() string{
		"app_": func() string { return string(id.NewApp()) },
		"usr_": func() string { return string(id.NewUser()) },
		"con_": func() string { return string(id.NewConnector()) },
		"inv_": func() string { return string(id.NewInvite()) },
		"ses_": func() string { return string(id.NewSession()) },
		"tok_": func() string { return string(id.NewToken()) },
	} {
		var made []string
		for range 200 {
			made = append(made, fresh())
		}
		if !slices.IsSorted(made) {
			t.Errorf("%s: not in the order of creation", prefix)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(made)))) != len(made) {
			t.Errorf("%s: the same twice", prefix)
		}
		for _, one := range made {
			if !strings.HasPrefix(one, prefix) {
				t.Fatalf("%s lacks %s", one, prefix)
			}
		}
	}
}

func TestRequestIDsTellNothing(t *testing.T) {
	seen := map[id.Request]bool{}
	for range 1000 {
		r := id.NewRequest()
		if len(r) != 26 || seen[r] {
			t.Fatalf("%q: %d characters, seen before: %v", r, len(r), seen[r])
		}
		seen[r] = true
	}
}
