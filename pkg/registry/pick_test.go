package registry

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// A bulk link is up before the fast one as often as not: exchanges wait for the fast one.
func TestExchangesWaitForAFastLinkBesideABulkOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		bulk := joinBulk(t, r, "con_1", 1, "a")
		defer bulk.leave()
		came := make(chan joined, 1)
		time.AfterFunc(300*time.Millisecond, func() { came <- join(t, r, "con_1", 1, "a") })
		began := time.Now()
		m := pick(t, r, "")
		fast := <-came
		if m.Link != fast.fakeLink || time.Since(began) != 300*time.Millisecond {
			t.Errorf("took %v after %v", m.Lane, time.Since(began))
		}
		for range 5 {
			if pick(t, r, "").Link != fast.fakeLink {
				t.Error("an exchange began on the bulk lane")
			}
		}
		// The fast link dies: its successor is waited for, and nothing else comes.
		_ = fast.Close(tunnel.Reason{Code: tunnel.ReasonLost})
		fast.leave()
		began = time.Now()
		if m := pick(t, r, ""); m.Link != bulk.fakeLink || time.Since(began) != bulkAlone {
			t.Errorf("took %v after %v", m.Lane, time.Since(began))
		}
		if began = time.Now(); pick(t, r, "").Link != bulk.fakeLink || time.Since(began) != 0 {
			t.Error("a bulk link that is alone for long makes every exchange wait")
		}
	})
}

// A connector that stops says so on each of its links, one after the other.
func TestBulkLinkOfAConnectorThatLeavesTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		bulk, fast := joinBulk(t, r, "con_1", 1, "a"), join(t, r, "con_1", 1, "a")
		<-time.After(time.Minute)
		r.Leaving("maple", "main", fast.fakeLink)
		time.AfterFunc(50*time.Millisecond, func() { r.Leaving("maple", "main", bulk.fakeLink) })
		if m, err := r.Pick(t.Context(), "maple", "main", ""); err == nil {
			t.Errorf("took %v", m.Lane)
		}
	})
}

func TestConnectorThatHasNoFastLinkYieldsToOneThatHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		joinBulk(t, r, "con_1", 1, "a")
		<-time.After(time.Minute)
		fast := join(t, r, "con_2", 1, "b")
		for range 6 {
			if pick(t, r, "").Link != fast.fakeLink {
				t.Fatal("an exchange began on the bulk lane")
			}
		}
	})
}

func TestExchangesGoToTheLinkWithTheFewest(t *testing.T) {
	now := time.Now()
	r := New(Config{Now: func() time.Time { return now }}) // one moment: no link has to prove that it lives beside a newer one
	links := map[tunnel.Link]int{}
	for range 3 {
		links[join(t, r, "con_1", 1, "a").fakeLink] = 0
	}
	var begun []*Member
	for range 30 {
		m := pick(t, r, "session")
		m.Begin()
		links[m.Link]++
		begun = append(begun, m)
	}
	for _, n := range links {
		if n != 10 {
			t.Fatalf("%v", links)
		}
	}
	// One link's exchanges are slow ones: the others take what comes.
	slow := begun[0].Link
	for _, m := range begun {
		if m.Link != slow {
			m.End()
		}
	}
	for range 10 {
		m := pick(t, r, "session")
		m.Begin()
		if m.Link == slow {
			t.Fatal("the most loaded link was picked")
		}
	}
}

// Connectors of one site share what does not stick by how many links each has, and keep what does.
func TestConnectorsOfASiteShareTheLoad(t *testing.T) {
	now := time.Now()
	r := New(Config{Now: func() time.Time { return now }})
	big := []joined{join(t, r, "con_big", 1, "a"), join(t, r, "con_big", 1, "a"), join(t, r, "con_big", 1, "a")}
	small := join(t, r, "con_small", 1, "b")
	got := map[id.Connector]int{}
	home := map[string]id.Connector{}
	for i := range 40 {
		key := fmt.Sprint(i)
		m := pick(t, r, key)
		m.Begin()
		got[m.Connector]++
		home[key] = m.Connector
	}
	if got["con_big"] != 30 || got["con_small"] != 10 {
		t.Errorf("%v", got)
	}
	// A session stays even with the connector that has more to do.
	for range 20 {
		for key, c := range home {
			if c == "con_small" {
				m := pick(t, r, key)
				m.Begin()
				if m.Connector != c {
					t.Fatal("a session moved though its connector lives")
				}
				break
			}
		}
	}
	for range 30 {
		m := pick(t, r, "")
		m.Begin()
		if m.Connector != "con_big" {
			t.Fatal("the most loaded connector got what does not stick")
		}
	}
	small.leave()
	for key := range home {
		if pick(t, r, key).Connector != "con_big" {
			t.Fatal("a dead connector's session has nowhere to go")
		}
	}
	for _, one := range big {
		one.leave()
	}
}

// A connector under load opens another link: the ones before are not taken for dead while they answer.
func TestLinkThatAnswersIsPickedBesideANewerOne(t *testing.T) {
	now := time.Now()
	r := New(Config{Now: func() time.Time { return now }})
	older := join(t, r, "con_1", 1, "a")
	running := pick(t, r, "")
	now = now.Add(time.Second)
	newer := join(t, r, "con_1", 1, "a")
	for range 2 {
		if pick(t, r, "").Link != newer.fakeLink {
			t.Fatal("a link that may be dead was picked")
		}
	}
	running.Answered()
	if pick(t, r, "").Link == pick(t, r, "").Link {
		t.Error("a link that answers is left out")
	}
	older.leave()
}
