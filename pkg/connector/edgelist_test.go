package connector

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func TestBadListsOfEdgesAreRefused(t *testing.T) {
	for name, urls := range map[string][]string{
		"none":        {},
		"plain http":  {"http://edge.example"},
		"a user":      {"https://user@edge.example"},
		"a path":      {"https://edge.example/x"},
		"an address":  {"https://[::1]:8443"},
		"twice":       {"https://edge.example", "https://edge.example:443"},
		"one is bad":  {"https://edge.example", ""},
		"17 of them":  slices.Repeat([]string{"https://edge.example"}, 17),
		"a huge port": {"https://edge.example:70000"},
	} {
		m := &tunnelv1.Edges{}
		for _, u := range urls {
			m.Edges = append(m.Edges, &tunnelv1.EdgeAddress{Url: u, Weight: 1})
		}
		if list, err := edgesOf(m); err == nil {
			t.Errorf("%s: taken as %v", name, list)
		}
	}
	if _, err := edgesOf(&tunnelv1.Edges{Edges: []*tunnelv1.EdgeAddress{{Url: "https://edge.example", Weight: 1001}}}); err == nil {
		t.Error("a weight over the bound was taken")
	}
}

// A damaged file costs the list, not the start, and the log says so.
func TestDamagedListIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	if got := loadEdges(dir, zap.NewNop()); got != nil {
		t.Errorf("from nothing: %v", got)
	}
	list := []edgeAddress{{"https://a.example", 1}, {"https://b.example:8443", 3}}
	if err := saveEdges(dir, list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, loadEdges(dir, zap.NewNop())); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "{", `{"edges":[{"url":"http://a.example"}]}`, `{"edges":[]}`, strings.Repeat(" ", maxSmallFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, edgesFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		if got := loadEdges(dir, zap.New(core)); got != nil || logs.Len() != 1 {
			t.Errorf("%.40q: %v with %d lines in the log", text, got, logs.Len())
		}
	}
}

func TestConnectorsSpreadByWeightAndKeepTheirOrder(t *testing.T) {
	const own = "https://enrolled.example"
	list := []edgeAddress{{"https://a.example", 3}, {"https://b.example", 1}, {"https://spare.example", 0}}
	first := map[string]int{}
	for i := range 1000 {
		connector := "con_" + strings.Repeat("x", i)
		got := order(list, own, connector)
		first[got[0]]++
		if got[2] != "https://spare.example" || got[3] != own {
			t.Fatalf("%v", got)
		}
		if got2 := order([]edgeAddress{list[2], list[1], list[0]}, own, connector); !slices.Equal(got, got2) {
			t.Fatalf("%v, and %v from the list in another order", got, got2)
		}
	}
	if n := first["https://a.example"]; n < 700 || n > 800 {
		t.Errorf("%v, want three to one", first)
	}
	if got := order(list[:2], "https://b.example", "con_1"); len(got) != 2 {
		t.Errorf("the enrolment's edge is there twice: %v", got)
	}
}

func TestChoiceOfEdges(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) doubt { return doubt{until: now.Add(d)} }
	for name, row := range map[string]struct {
		candidates, want []string
		givenUp          map[string]doubt
	}{
		"one":                        {candidates: []string{"a"}, want: []string{"a"}},
		"two of three":               {candidates: []string{"a", "b", "c"}, want: []string{"a", "b"}},
		"in place of a dead one":     {candidates: []string{"a", "b", "c"}, givenUp: map[string]doubt{"a": in(time.Minute)}, want: []string{"b", "c"}},
		"dead ones if there is none": {candidates: []string{"a", "b"}, givenUp: map[string]doubt{"a": in(1), "b": in(1)}, want: []string{"a", "b"}},
		"least doubted first": {
			candidates: []string{"a", "b", "c"}, want: []string{"b", "c"},
			givenUp: map[string]doubt{"a": in(3 * time.Minute), "b": in(time.Minute), "c": in(2 * time.Minute)},
		},
		"forgiven after a while": {candidates: []string{"a", "b", "c"}, givenUp: map[string]doubt{"a": in(0)}, want: []string{"a", "b"}},
	} {
		if got := choose(row.candidates, row.givenUp, now); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// An edge that is only busy is tried again within half a minute, one that stays silent less and less often, up to five minutes.
func TestHowLongAnEdgeIsPassedOver(t *testing.T) {
	now, d := time.Now(), doubt{}
	for n, most := range []time.Duration{20, 40, 80, 160, 300, 300} {
		d = d.again(now)
		if wait := d.until.Sub(now); wait > most*time.Second || wait <= most*time.Second/2 {
			t.Errorf("time %d: %s, want up to %d s", n+1, wait, most)
		}
	}
}

func FuzzParseEdges(f *testing.F) {
	f.Add([]byte(`{"edges":[{"url":"https://edge.example:8443","weight":1}]}`))
	f.Add([]byte(`{"edges":[{"url":"https://user@edge.example"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseEdges(text)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > maxEdges {
			t.Errorf("%d entries", len(list))
		}
		again, err := checkEdges(list)
		if err != nil || !slices.Equal(list, again) {
			t.Errorf("%v is not canonical: %v %v", list, again, err)
		}
	})
}
