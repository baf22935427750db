package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// fakeLink is a Link that only lives and ends.
type fakeLink struct {
	tunnel.Link
	tunnel.Ending
}

func (l *fakeLink) Close(reason tunnel.Reason) error {
	l.End(&tunnel.ClosedError{Reason: reason})
	return nil
}
func (l *fakeLink) Done() <-chan struct{} { return l.Ending.Done() }
func (l *fakeLink) Cause() error          { return l.Ending.Cause() }
func (l *fakeLink) Info() tunnel.Info     { return tunnel.Info{Transport: "quic"} }

func (l *fakeLink) reason() string {
	if c := l.Closed(); c != nil {
		return c.Reason.Code
	}
	return ""
}

type joined struct {
	*fakeLink
	leave func()
}

func join(t testing.TB, r *Registry, c id.Connector, generation uint64, instance string) joined {
	t.Helper()
	l := &fakeLink{}
	leave, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: c, Generation: generation, Instance: instance, Lane: tunnelv1.Lane_LANE_FAST, Link: l})
	if err != nil {
		t.Fatal(err)
	}
	return joined{l, leave}
}

func pick(t testing.TB, r *Registry, stick string) *Member {
	t.Helper()
	m, err := r.Pick(t.Context(), "maple", "main", stick)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNewestGenerationTakesNewExchangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		old := join(t, r, "con_1", 7, "a")
		begun := time.Now()
		if m := pick(t, r, "s"); m.Link != old.fakeLink {
			t.Fatal("the only link is not taken")
		}
		newer := join(t, r, "con_1", 8, "b")
		for range 20 {
			if m := pick(t, r, "s"); m.Link != newer.fakeLink {
				t.Fatal("an exchange went to the older generation")
			}
		}
		if _, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 7, Link: &fakeLink{}}); !fault.Is(err, fault.Conflict) {
			t.Errorf("an older generation may join again: %v", err)
		}
		// The newer one dies while the older still drains: better the older than nobody.
		newer.leave()
		if m := pick(t, r, "s"); m.Link != old.fakeLink {
			t.Error("no link taken although one lives")
		}
		newer = join(t, r, "con_1", 9, "c")
		if list := r.Members("maple"); len(list) != 2 || list[0].Superseded || !list[1].Superseded {
			t.Errorf("status: %+v", list)
		}
		<-old.Done()
		if old.reason() != tunnel.ReasonSuperseded || time.Since(begun) != 30*time.Second {
			t.Errorf("the older link was closed as %q after %v", old.reason(), time.Since(begun))
		}
		old.leave()
		newer.leave()
		if len(r.sites) != 0 {
			t.Error("an empty site is remembered")
		}
	})
}

func TestSessionStaysWithItsConnector(t *testing.T) {
	r := New(Config{})
	a := join(t, r, "con_a", 1, "a")
	before := map[string]id.Connector{}
	for i := range 50 {
		key := fmt.Sprint(i)
		before[key] = pick(t, r, key).Connector
	}
	b := join(t, r, "con_b", 1, "b")
	for key, was := range before {
		if got := pick(t, r, key).Connector; got != was {
			t.Fatalf("%s moved from %s to %s though its connector lives", key, was, got)
		}
	}
	seen := map[id.Connector]bool{}
	for range 10 {
		seen[pick(t, r, "").Connector] = true
	}
	if len(seen) != 2 {
		t.Error("what does not stick does not go round")
	}
	a.leave()
	for key := range before {
		if got := pick(t, r, key).Connector; got != "con_b" {
			t.Fatalf("%s: %s", key, got)
		}
	}
	b.leave()
}

// The network changed: the process is back on a new link before the edge knows that the old one is dead.
func TestOlderLinkWaitsUntilItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		old := join(t, r, "con_1", 1, "a")
		<-time.After(time.Second)
		fresh := join(t, r, "con_1", 1, "a")
		for range 10 {
			if pick(t, r, "").Link != fresh.fakeLink {
				t.Fatal("an exchange went to a link that may be dead")
			}
		}
		<-time.After(time.Second)
		r.Heard("maple", "main", old.fakeLink, nil)
		seen := map[tunnel.Link]bool{}
		for range 10 {
			seen[pick(t, r, "").Link] = true
		}
		if len(seen) != 2 {
			t.Error("a link that was heard again takes no exchanges")
		}
		fresh.leave()
		old.leave()
	})
}

func joinBulk(t testing.TB, r *Registry, c id.Connector, generation uint64, instance string) joined {
	t.Helper()
	l := &fakeLink{}
	leave, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: c, Generation: generation, Instance: instance, Lane: tunnelv1.Lane_LANE_BULK, Link: l})
	if err != nil {
		t.Fatal(err)
	}
	return joined{l, leave}
}

func TestSiteWithoutLinkWaitsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Waiters: 3})
		start := time.Now()
		if _, err := r.Pick(t.Context(), "maple", "main", ""); !fault.Is(err, fault.Unavailable) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the browser went away"))
		if _, err := r.Pick(ctx, "maple", "main", ""); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v", err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := r.Pick(t.Context(), "maple", "main", "x"); err != nil {
					t.Errorf("waiting for a link that came: %v", err)
				}
			})
		}
		synctest.Wait()
		now := time.Now()
		if _, err := r.Pick(t.Context(), "maple", "main", ""); !fault.Is(err, fault.Unavailable) || time.Since(now) != 0 {
			t.Errorf("one waiter too many: %v after %v", err, time.Since(now))
		}
		// Another clinic's connector, and another site's, is nobody's answer here.
		foreign, err := r.Join(Member{Tenant: "cedar", Site: "main", Connector: "con_9", Generation: 1, Link: &fakeLink{}})
		if err != nil {
			t.Fatal(err)
		}
		defer foreign()
		synctest.Wait()
		one := join(t, r, "con_1", 1, "a")
		wg.Wait()
		one.leave()
		if n := len(r.sites); n != 1 {
			t.Errorf("%d sites remembered, want cedar's", n)
		}
	})
}

func TestDeadAndLeavingLinksAreNotPicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		dead, leaving, good := join(t, r, "con_1", 1, "a"), join(t, r, "con_1", 1, "a"), join(t, r, "con_1", 1, "a")
		_ = dead.Close(tunnel.Reason{Code: tunnel.ReasonLost})
		r.Leaving("maple", "main", leaving.fakeLink)
		for range 9 {
			if pick(t, r, "").Link != good.fakeLink {
				t.Fatal("picked a link that takes nothing")
			}
		}
		_ = good.Close(tunnel.Reason{Code: tunnel.ReasonLost})
		if _, err := r.Pick(t.Context(), "maple", "main", ""); err == nil {
			t.Error("picked a link that takes nothing")
		}
		if leaving.reason() != "" {
			t.Error("a leaving link was closed under what it carries")
		}
	})
}

func TestCloseConnectorClosesItsLinksAndNoOthers(t *testing.T) {
	r := New(Config{})
	a, b, other := join(t, r, "con_1", 1, "a"), join(t, r, "con_1", 1, "a"), join(t, r, "con_2", 1, "b")
	r.CloseConnector("con_1", tunnel.Reason{Code: tunnel.ReasonRevoked})
	if a.reason() != tunnel.ReasonRevoked || b.reason() != tunnel.ReasonRevoked || other.reason() != "" {
		t.Errorf("%q %q %q", a.reason(), b.reason(), other.reason())
	}
}

// One link of a process may be dead and still take messages: the others must get them too.
func TestBroadcastReachesEachLinkOfTheTenant(t *testing.T) {
	r := New(Config{})
	got := map[string]int{}
	add := func(tenant id.Tenant, c id.Connector, instance string, fails bool) {
		_, err := r.Join(Member{
			Tenant: tenant, Site: "main", Connector: c, Generation: 1, Instance: instance, Link: &fakeLink{},
			Control: func(*tunnelv1.Control) error {
				if fails {
					return errors.New("stream is gone")
				}
				got[string(tenant)+string(c)]++
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add("maple", "con_1", "a", true)
	add("maple", "con_1", "a", false)
	add("maple", "con_1", "a", false)
	add("maple", "con_2", "b", false)
	add("cedar", "con_3", "c", false)
	if n := r.Broadcast("maple", &tunnelv1.Control{}); n != 2 || got["maplecon_1"] != 2 || got["maplecon_2"] != 1 || len(got) != 2 {
		t.Errorf("%d %v", n, got)
	}
	if n := len(r.Members("maple")); n != 4 {
		t.Errorf("%d members listed", n)
	}
}

func TestStickyTableIsBounded(t *testing.T) {
	r := New(Config{Sticky: 10})
	join(t, r, "con_1", 1, "a")
	for i := range 100 {
		pick(t, r, fmt.Sprint(i))
	}
	if n := len(r.stick.byKey); n != 10 || r.stick.order.Len() != 10 {
		t.Errorf("%d keys remembered", n)
	}
}

func BenchmarkPick(b *testing.B) {
	r := New(Config{})
	join(b, r, "con_1", 1, "a")
	join(b, r, "con_2", 1, "b")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Pick(b.Context(), "maple", "main", "ses_1"); err != nil {
			b.Fatal(err)
		}
	}
}

// What heartbeats and the spreading of connectors go by.
func TestLinksAreCounted(t *testing.T) {
	r := New(Config{})
	want := func(links, connectors int) {
		t.Helper()
		if l, c := r.Links(); l != links || c != connectors {
			t.Errorf("%d links of %d connectors, want %d of %d", l, c, links, connectors)
		}
	}
	want(0, 0)
	first, second, other := join(t, r, "con_1", 2, "a"), join(t, r, "con_1", 2, "a"), join(t, r, "con_2", 1, "b")
	if _, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 1, Link: &fakeLink{}}); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	want(3, 2)
	first.leave()
	first.leave()
	want(2, 2)
	other.leave()
	want(1, 1)
	second.leave()
	want(0, 0)
}

// The number of a process that is still linked is kept however long ago it asked for it; that of one that has gone is asked about anew.
func TestWhoIsLinkedKeepsItsNumber(t *testing.T) {
	now, asked := time.Now(), 0
	r := New(Config{Now: func() time.Time { return now }})
	number := func(c id.Connector) {
		t.Helper()
		_, err := r.Generation(t.Context(), Who{Tenant: "maple", Site: "main", Connector: c, Instance: "a"}, func(context.Context) (enroll.Run, error) {
			asked++
			return enroll.Run{Generation: 1}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	number("con_1")
	number("con_2")
	join(t, r, "con_1", 1, "a")
	join(t, r, "con_2", 1, "a").leave()
	now = now.Add(25 * time.Hour)
	number("con_3")
	asked = 0
	if number("con_1"); asked != 0 {
		t.Error("the store is asked about a process that has a link")
	}
	if number("con_2"); asked != 1 {
		t.Error("what is remembered of connectors that have gone grows without end")
	}
}

// crowd is a registry with two links of each of many connectors, two at a site.
func crowd(b *testing.B, now func() time.Time) *Registry {
	b.Helper()
	r := New(Config{Now: now})
	for i := range 20_000 {
		c := id.Connector(fmt.Sprint("con_", i/2))
		who := Who{Tenant: "maple", Site: id.Site(fmt.Sprint("site", i/4)), Connector: c, Instance: "a"}
		generation, err := r.Generation(b.Context(), who, func(context.Context) (enroll.Run, error) { return enroll.Run{Generation: 1}, nil })
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Join(Member{Tenant: who.Tenant, Site: who.Site, Connector: c, Generation: generation, Instance: "a", Link: &fakeLink{}}); err != nil {
			b.Fatal(err)
		}
	}
	return r
}

// BenchmarkLinks counts the links of 10,000 connectors, which each heartbeat does, and each look at the list of edges.
func BenchmarkLinks(b *testing.B) {
	r := crowd(b, time.Now)
	for b.Loop() {
		if links, connectors := r.Links(); links != 20_000 || connectors != 10_000 {
			b.Fatal(links, connectors)
		}
	}
}

// BenchmarkSweep is a connector that asks for its number a day after 10,000 others, which are still there.
func BenchmarkSweep(b *testing.B) {
	var passed time.Duration
	began := time.Now()
	r := crowd(b, func() time.Time { return began.Add(passed) })
	passed = 25 * time.Hour
	who := Who{Tenant: "maple", Site: "site0", Connector: "con_0", Instance: "a"}
	for b.Loop() {
		passed += 2 * time.Minute
		if _, err := r.Generation(b.Context(), who, nil); err != nil {
			b.Fatal(err)
		}
	}
}
