package registry

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// shelf numbers the runs of one connector as the store does.
type shelf struct {
	mu      sync.Mutex
	runs    []string // the instance of each generation
	returns int
}

func (s *shelf) join(instance string) func(context.Context) (enroll.Run, error) {
	return func(context.Context) (run enroll.Run, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		at := slices.Index(s.runs, instance)
		if n := len(s.runs); at < 0 || s.runs[n-1] != instance {
			s.runs = append(s.runs, instance)
			if at >= 0 {
				s.returns++
				run.Returns = s.returns
			}
		}
		run.Generation = uint64(len(s.runs))
		return run, nil
	}
}

func TestOneNumberForAllLinksOfAProcess(t *testing.T) {
	r, kept, asked := New(Config{}), &shelf{}, 0
	who := Who{Tenant: "maple", Site: "main", Connector: "con_1", Instance: "a"}
	ask := func(ctx context.Context) (enroll.Run, error) {
		asked++
		return kept.join(who.Instance)(ctx)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if g, err := r.Generation(t.Context(), who, ask); err != nil || g != 1 {
				t.Errorf("%d %v", g, err)
			}
		})
	}
	wg.Wait()
	if asked != 1 {
		t.Errorf("the store was asked %d times about one process", asked)
	}
	who.Instance = "b"
	if g, _ := r.Generation(t.Context(), who, ask); g != 2 {
		t.Errorf("a new process joins generation %d", g)
	}
}

// machine is one edge of two that share a store.
type machine struct {
	*Registry
	alarms []Alarm
}

func (m *machine) connect(t *testing.T, kept *shelf, instance string) (joined, error) {
	t.Helper()
	g, err := m.Generation(t.Context(), Who{"maple", "main", "con_1", instance}, kept.join(instance))
	if err != nil {
		return joined{}, err
	}
	return join(t, m.Registry, "con_1", g, instance), nil
}

func newMachine() *machine {
	m := &machine{}
	m.Registry = New(Config{Presence: true, Alarm: func(a Alarm) { m.alarms = append(m.alarms, a) }})
	return m
}

// Two machines with one key take turns at superseding each other (attack case H9).
func TestCopiedKeyIsFrozen(t *testing.T) {
	r, kept := newMachine(), &shelf{}
	connect := func(instance string) (joined, error) { return r.connect(t, kept, instance) }
	for _, instance := range []string{"1", "2", "3", "4", "5"} {
		if _, err := connect(instance); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.alarms) != 0 {
		t.Fatal("restarts raise an alarm")
	}
	if _, err := connect("4"); err != nil {
		t.Fatal(err)
	}
	if len(r.alarms) != 1 || r.alarms[0].Frozen {
		t.Fatalf("%+v", r.alarms)
	}
	live, err := connect("6")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect("4"); !fault.Is(err, fault.Denied) {
		t.Fatalf("not frozen: %v", err)
	}
	if len(r.alarms) != 2 || !r.alarms[1].Frozen || live.reason() != tunnel.ReasonRefused {
		t.Errorf("%+v, link closed as %q", r.alarms, live.reason())
	}
	if _, err := connect("7"); !fault.Is(err, fault.Denied) {
		t.Error("a frozen connector joins under another instance")
	}
	if _, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 99, Link: &fakeLink{}}); !fault.Is(err, fault.Denied) {
		t.Error("a frozen connector joins past Generation")
	}
	r.Thaw("con_1")
	if _, err := connect("8"); err != nil {
		t.Error(err)
	}
}

// The same with a machine at each of two edges: neither edge sees the other process, but for its generation.
func TestCopiedKeyIsFrozenAcrossEdges(t *testing.T) {
	one, two, kept := newMachine(), newMachine(), &shelf{}
	tell := func(to *machine, generation uint64) {
		to.Outdone(Presence{Tenant: "maple", Site: "main", Connector: "con_1", Generation: generation, Links: 1})
	}
	clinic, err := one.connect(t, kept, "clinic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.connect(t, kept, "thief"); err != nil {
		t.Fatal(err)
	}
	tell(one, 2)
	if p := one.TakePresence(); len(p) != 1 || p[0].Links != 0 {
		t.Errorf("an older generation still takes exchanges: %+v", p)
	}
	if _, err := one.connect(t, kept, "clinic"); err != nil || len(one.alarms) != 1 || one.alarms[0].Frozen {
		t.Fatalf("%v, %+v", err, one.alarms)
	}
	tell(two, 3)
	if _, err := two.connect(t, kept, "thief"); !fault.Is(err, fault.Denied) || len(two.alarms) != 1 || !two.alarms[0].Frozen {
		t.Fatalf("%v, %+v", err, two.alarms)
	}
	if clinic.reason() != "" {
		t.Error("the other edge hears of the freeze from the store alone")
	}
}

// A process that one edge knows joins the same run on another.
func TestOneNumberOnAllEdges(t *testing.T) {
	one, two, kept := newMachine(), newMachine(), &shelf{}
	for _, m := range []*machine{one, two, one, two} {
		if _, err := m.connect(t, kept, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []*machine{one, two} {
		for _, l := range m.Members("") {
			if l.Generation != 1 {
				t.Errorf("generation %d", l.Generation)
			}
		}
	}
}

func TestANewerRunOnAnotherEdgeDrainsTheOlderOneHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		old, other := join(t, r, "con_1", 7, "a"), join(t, r, "con_2", 3, "b")
		begun := time.Now()
		r.Outdone(Presence{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 8})
		for range 20 {
			if m := pick(t, r, ""); m.Link != other.fakeLink {
				t.Fatal("an exchange went to a run that another edge has a newer one of")
			}
		}
		<-old.Done()
		if old.reason() != tunnel.ReasonSuperseded || time.Since(begun) != 30*time.Second {
			t.Errorf("the older link was closed as %q after %v", old.reason(), time.Since(begun))
		}
		r.Outdone(Presence{Tenant: "maple", Site: "elsewhere", Connector: "con_1", Generation: 8})
		r.Outdone(Presence{Tenant: "maple", Site: "main", Connector: "con_2", Generation: 3})
		if other.reason() != "" || pick(t, r, "").Link != other.fakeLink {
			t.Error("the same generation ended")
		}
		old.leave()
		other.leave()
	})
}

// What a cluster is told of a connector: how many links of its newest run take exchanges.
func TestPresenceTellsWhatHasChanged(t *testing.T) {
	r := New(Config{Presence: true})
	expect := func(when string, want ...Presence) {
		t.Helper()
		got := r.TakePresence()
		slices.SortFunc(got, func(a, b Presence) int { return len(a.Connector) - len(b.Connector) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	of := func(generation uint64, links int) Presence {
		return Presence{Tenant: "maple", Site: "main", Connector: "con_1", Generation: generation, Links: links}
	}
	expect("at the start")
	a := join(t, r, "con_1", 1, "a")
	<-r.Stirred()
	b := join(t, r, "con_1", 1, "a")
	expect("two links", of(1, 2))
	expect("no change")
	c := join(t, r, "con_1", 2, "c")
	expect("a newer run", of(2, 1))
	r.Leaving("maple", "main", c.fakeLink)
	expect("the newer one leaves", of(1, 2))
	b.leave()
	c.leave()
	expect("one left", of(1, 1))
	a.leave()
	expect("none left", of(0, 0))
}
