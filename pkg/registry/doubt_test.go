package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// proved is a link that has been asked to prove itself so many times.
type proved struct {
	joined
	asked *int
}

// joinProving adds a link that can be probed; the test answers.
func joinProving(t testing.TB, r *Registry, c id.Connector, generation uint64, instance string, lane tunnelv1.Lane) proved {
	t.Helper()
	l, asked := &fakeLink{}, new(int)
	leave, err := r.Join(Member{
		Tenant: "maple", Site: "main", Connector: c, Generation: generation, Instance: instance, Lane: lane, Link: l,
		Probed: true, Prove: func() { *asked++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	return proved{joined{l, leave}, asked}
}

// killed is what an edge sees at once of a process that was killed: its TCP connection ends, and nothing was said on it.
func (p proved) killed() {
	p.End(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonLost}})
	p.leave()
}

// Of two connectors one is killed: from the moment that its TCP connection ends everything goes to the other, though its QUIC link
// looks alive for some seconds more. If it lives after all, its sessions are its own again.
func TestAKilledConnectorTakesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		fast := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		bulk := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
		if pick(t, r, "session").Connector != "con_1" {
			t.Fatal("the only connector is not taken")
		}
		other := joinProving(t, r, "con_2", 1, "b", tunnelv1.Lane_LANE_FAST)
		<-time.After(time.Minute)
		bulk.killed()
		if *fast.asked != 1 || *other.asked != 0 {
			t.Errorf("asked to prove itself: %d times the process, %d times another", *fast.asked, *other.asked)
		}
		for range 10 {
			if pick(t, r, "session").Link != other.fakeLink || pick(t, r, "").Link != other.fakeLink {
				t.Fatal("an exchange went to a process that may be gone")
			}
		}
		r.Proved("maple", "main", fast.fakeLink, time.Second) // a probe that had left before
		if pick(t, r, "session").Link != other.fakeLink {
			t.Error("an old answer proves nothing")
		}
		<-time.After(50 * time.Millisecond)
		r.Proved("maple", "main", fast.fakeLink, 50*time.Millisecond)
		if pick(t, r, "session").Link != fast.fakeLink {
			t.Error("the session did not come back to its connector")
		}
	})
}

// The only connector is killed: requests wait for its successor, and none is sent into the void.
func TestRequestsWaitForTheSuccessorOfAKilledConnector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Waiters: 1, Presence: true})
		fast := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		bulk := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
		if got := r.TakePresence(); len(got) != 1 || got[0].Links != 2 {
			t.Errorf("other edges are told %+v", got)
		}
		bulk.killed()
		if got := r.TakePresence(); len(got) != 1 || got[0].Links != 0 {
			t.Errorf("other edges are told %+v", got)
		}
		if r.PickHere("maple", "main", "") != nil {
			t.Error("a process that may be gone is taken")
		}
		began := time.Now()
		if _, ok := r.PickRun(t.Context(), "maple", "main", "con_1", 1); ok || time.Since(began) != doubtWait {
			t.Errorf("what another edge sent: %v after %s", ok, time.Since(began))
		}
		came := make(chan proved, 1)
		time.AfterFunc(2*time.Second, func() { came <- joinProving(t, r, "con_1", 2, "b", tunnelv1.Lane_LANE_FAST) })
		picked := make(chan *Member)
		go func() {
			m, _ := r.Pick(t.Context(), "maple", "main", "")
			picked <- m
		}()
		synctest.Wait()
		// More than may wait take what there is: as before, it may live.
		if m := pick(t, r, ""); m.Link != fast.fakeLink {
			t.Error("a crowd is refused although a link may live")
		}
		if m, successor := <-picked, <-came; m == nil || m.Link != successor.fakeLink {
			t.Errorf("picked %+v", m)
		}
		// What was under way on the old run is told now, not when the transport has run out of patience.
		<-fast.Done()
		if lived := time.Since(began); lived != unproved {
			t.Errorf("the killed run was given up after %s", lived)
		}
	})
}

// A TCP connection that a firewall cuts costs a round trip, and nothing of an older run that is finishing its work.
func TestARunThatProvesItselfIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		fast := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		bulk := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
		joinProving(t, r, "con_1", 2, "b", tunnelv1.Lane_LANE_FAST)
		bulk.killed()
		time.AfterFunc(100*time.Millisecond, func() { r.Proved("maple", "main", fast.fakeLink, 100*time.Millisecond) })
		began := time.Now()
		m, ok := r.PickRun(t.Context(), "maple", "main", "con_1", 1)
		if !ok || m.Link != fast.fakeLink || time.Since(began) != 100*time.Millisecond {
			t.Errorf("%v after %s", ok, time.Since(began))
		}
		<-time.After(unproved + time.Second)
		if fast.reason() != "" {
			t.Errorf("closed: %v", fast.Cause())
		}
	})
}

// Links that end with a word say nothing against their siblings.
func TestALinkThatSaysGoodbyePutsNoneInDoubt(t *testing.T) {
	r := New(Config{})
	fast := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
	bulk := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
	_ = bulk.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	bulk.leave()
	if *fast.asked != 0 || pick(t, r, "").Link != fast.fakeLink {
		t.Error("it is in doubt")
	}
}

// A connector's machine loses its power: its links end much later, and what it was asked goes unanswered. The next request has it
// probed; when that is out for too long the other connector takes what comes, until something comes back.
func TestAQuietConnectorTakesOnlyWhatNobodyElseTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		dark := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		dark.proved(r)
		asks := func(answered bool) {
			m := pick(t, r, "session")
			m.Begin()
			if answered {
				m.Answered()
				m.End()
			}
		}
		for range 20 {
			<-time.After(100 * time.Millisecond)
			asks(true)
		}
		for range 5 {
			<-time.After(99 * time.Millisecond)
			asks(false)
		}
		if *dark.asked != 0 {
			t.Error("probed although exchanges were answered just now")
		}
		for range 9 {
			<-time.After(50 * time.Millisecond)
			asks(false)
		}
		if *dark.asked != 1 {
			t.Errorf("probed %d times in the first second without an answer", *dark.asked)
		}
		r.Late("maple", "main", dark.fakeLink, 400*time.Millisecond)
		if m := pick(t, r, "session"); m.Link != dark.fakeLink || !m.Quiet() {
			t.Error("the only link there is takes nothing")
		}
		other := joinProving(t, r, "con_2", 1, "b", tunnelv1.Lane_LANE_FAST)
		for range 5 {
			if pick(t, r, "session").Link != other.fakeLink || pick(t, r, "").Link != other.fakeLink {
				t.Fatal("a quiet link is taken although there is another")
			}
		}
		<-time.After(time.Second)
		dark.proved(r)
		r.Late("maple", "main", dark.fakeLink, time.Minute) // came too late itself
		if pick(t, r, "session").Link != dark.fakeLink {
			t.Error("the session did not come back to its connector")
		}
	})
}

// proved has a probe of the link come back.
func (p proved) proved(r *Registry) { r.Proved("maple", "main", p.fakeLink, time.Millisecond) }

// A process that stands still is found out on all of its fast links when one is quiet, and other edges are told when it is and when it
// is not any more.
func TestOtherEdgesAreToldOfAQuietRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Presence: true})
		one := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		two := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
		joinProving(t, r, "con_2", 1, "b", tunnelv1.Lane_LANE_FAST)
		told := func(when string, quiet bool) {
			t.Helper()
			got := r.TakePresence()
			if len(got) != 1 || got[0].Connector != "con_1" || got[0].Quiet != quiet || got[0].Links != 3 {
				t.Errorf("%s: other edges are told %+v", when, got)
			}
		}
		r.TakePresence()
		<-time.After(time.Minute)
		r.Late("maple", "main", one.fakeLink, waited)
		told("one is quiet", false)
		if *two.asked != 1 {
			t.Errorf("its other link was asked %d times", *two.asked)
		}
		r.Late("maple", "main", two.fakeLink, waited)
		told("both are", true)
		m := pick(t, r, "")
		if m.Connector != "con_2" {
			t.Errorf("%s is taken", m.Connector)
		}
		r.Proved("maple", "main", two.fakeLink, time.Millisecond)
		told("a probe came back", false)
		r.Late("maple", "main", one.fakeLink, 0) // it is known
		if got := r.TakePresence(); len(got) != 0 {
			t.Errorf("other edges are told what they know: %+v", got)
		}
		for _, at := range r.sites[place{"maple", "main"}].members {
			at.Answered()
		}
		told("an exchange was answered", false)
	})
}

// A lane grows with load: the links that were there are asked whether they live, and take their share again when they have said so, a
// round trip later. One that is dead takes nothing.
func TestAGrowingLaneSpreadsARoundTripLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		one := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		two := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		bulk := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_BULK)
		other := joinProving(t, r, "con_2", 1, "b", tunnelv1.Lane_LANE_FAST)
		other.leave()
		<-time.After(time.Second)
		*one.asked = 0
		fresh := joinProving(t, r, "con_1", 1, "a", tunnelv1.Lane_LANE_FAST)
		if *one.asked != 1 || *two.asked != 1 || *bulk.asked+*fresh.asked+*other.asked != 0 {
			t.Errorf("asked: %d and %d times the links beside it; %d bulk, %d itself, %d another's", *one.asked, *two.asked, *bulk.asked, *fresh.asked, *other.asked)
		}
		taken := func() map[tunnel.Link]bool {
			seen := map[tunnel.Link]bool{}
			for range 12 {
				seen[pick(t, r, "").Link] = true
			}
			return seen
		}
		if seen := taken(); len(seen) != 1 || !seen[fresh.fakeLink] {
			t.Error("an exchange went to a link that may be dead")
		}
		<-time.After(40 * time.Millisecond)
		one.proved(r)
		if seen := taken(); len(seen) != 2 || !seen[one.fakeLink] || !seen[fresh.fakeLink] {
			t.Errorf("%d links take exchanges, want the new one and the one that has said that it lives", len(seen))
		}
	})
}
