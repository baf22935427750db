package urlpath

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseQueryKeepsEverything(t *testing.T) {
	for raw, want := range map[string]Values{
		"":                         nil,
		"&&":                       nil,
		"a":                        {{"a", ""}},
		"a=1&a=2&b=3&a=1":          {{"a", "1"}, {"a", "2"}, {"b", "3"}, {"a", "1"}},
		"a=1;a=2":                  {{"a", "1;a=2"}},
		"%64emo=7&&m=%73ave+x%2By": {{"demo", "7"}, {"m", "save x+y"}},
		"a+b=c=d&e[]=[1]":          {{"a b", "c=d"}, {"e[]", "[1]"}},
		"Search=Search+":           {{"Search", "Search "}},
		"q=%e9":                    {{"q", "\xe9"}},
	} {
		got, err := ParseQuery(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", raw, diff)
		}
	}
}

func TestParseQueryRefusesDoubt(t *testing.T) {
	for raw, want := range map[string]Reason{
		"a=%zz": BadPair, "%=1": BadPair, "a=1&b=%4": BadPair, "=x": BadPair, "a=1&=": BadPair,
		strings.Repeat("a&", MaxParameters+1): TooMany,
	} {
		_, err := ParseQuery(raw)
		var refused *Error
		if !errors.As(err, &refused) || refused.Reason != want {
			t.Errorf("%.40q: got %v, want %s", raw, err, want)
		}
	}
	if v, err := ParseQuery(strings.Repeat("a&", MaxParameters)); err != nil || len(v) != MaxParameters {
		t.Errorf("%d parameters: %v", len(v), err)
	}
}

func TestValues(t *testing.T) {
	v, err := ParseQuery("a=1&b=&a=2")
	if err != nil {
		t.Fatal(err)
	}
	if v.Get("a") != "1" || v.Get("c") != "" || !v.Has("b") || v.Has("A") {
		t.Errorf("lookups are wrong in %v", v)
	}
	if diff := cmp.Diff([]string{"1", "2"}, v.All("a")); diff != "" {
		t.Error(diff)
	}
}
