package ingress

import (
	"fmt"
	"testing"
	"time"
)

func TestNobodyHopsBetweenOrigins(t *testing.T) {
	now := time.Unix(1000, 0)
	in := New(Config{
		Rules: load(t, "rules:\n  - origins: [http://10.0.0.1, http://10.0.0.2]\n"), Now: func() time.Time { return now },
	})
	g := in.current.Load().groups[0]
	first, second := g.origins[0], g.origins[1]
	down := failUnsent(StateRefused, "E-ORIGIN-REFUSED", "down", nil)
	lose := func(o *origin) {
		for range 2 {
			o.unanswered(down)
		}
	}
	expect := func(what string, key uint64, want *origin) {
		t.Helper()
		if got := g.choose(key, nil, now); got != want {
			t.Errorf("%s: %v", what, got.name)
		}
	}
	const lee, roy, wu = 1, 2, 3
	expect("at first", lee, first)
	if got := g.choose(lee, []*origin{first}, now); got != second {
		t.Error("no second origin after the first took no connection")
	}
	expect("after that", lee, second)
	lose(first)
	expect("the first is down", roy, second)
	first.checked(200, 0)
	expect("it is back, but only just", wu, second)
	now = now.Add(settleAfter)
	expect("it is back for a while", 4, first)
	expect("somebody whom the second serves", roy, second)
	lose(second)
	expect("the second is down too", roy, first)
	lose(first)
	if g.choose(roy, nil, now) == nil || g.choose(roy, []*origin{first}, now) != nil {
		t.Error("with both down: want one, which says why, and no second one")
	}
	first.checked(200, 0)
	second.checked(200, 0)
	for range unfitAfter {
		first.checked(500, 0)
	}
	expect("the first answers checks with errors", 5, second)
	second.checked(500, 0)
	second.checked(500, 0)
	expect("both do", 6, first)
}

func TestSpreadIsEvenAndTheSameAfterARestart(t *testing.T) {
	rules := load(t, "rules:\n  - origins: [http://10.0.0.1, http://10.0.0.2, http://10.0.0.3]\n    balance: spread\n")
	a, b := New(Config{Rules: rules}).current.Load().groups[0], New(Config{Rules: rules}).current.Load().groups[0]
	now, count := time.Now(), map[string]int{}
	for i := range 300 {
		key := principalOf(WithPrincipal(t.Context(), fmt.Sprintf("user usr_%d", i)), "")
		o := a.choose(key, nil, now)
		count[o.name]++
		if b.choose(key, nil, now).name != o.name {
			t.Fatal("a restart moved somebody")
		}
	}
	for name, n := range count {
		if n < 60 || len(count) != 3 {
			t.Errorf("%s serves %d of 300", name, n)
		}
	}
}

func TestBindingsAreBoundedAndFade(t *testing.T) {
	in := New(Config{Rules: load(t, "rules:\n  - origins: [http://10.0.0.1, http://10.0.0.2]\n")})
	g, now := in.current.Load().groups[0], time.Unix(1000, 0)
	for key := range uint64(5 * maxBindings) {
		g.choose(key, nil, now)
	}
	if n := len(g.young) + len(g.old); n > 2*maxBindings {
		t.Errorf("%d people are remembered", n)
	}
}

// What stays in the rules keeps its state, whatever else changes.
func TestOriginsKeepTheirStateOverNewRules(t *testing.T) {
	before := load(t, "rules:\n  - host: a.example\n    origins: [http://10.0.0.1, http://10.0.0.2]\n  - origin: http://10.0.0.3\n")
	after := load(t, "rules:\n  - host: b.example\n    origins: [http://10.0.0.1, http://10.0.0.2]\n  - origin: http://10.0.0.4\n")
	in := New(Config{Rules: before})
	next := in.assemble(after, in.current.Load())
	if next.groups[0] != in.current.Load().groups[0] || next.origins[0] != in.current.Load().origins[0] || next.origins[2] == in.current.Load().origins[2] {
		t.Error("what stayed was made anew, or what changed was kept")
	}
	if next.origins[0].checkHost != "b.example" {
		t.Error("checks ask for the host of the old rules")
	}
}
