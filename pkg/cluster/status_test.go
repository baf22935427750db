package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// What an operator sees: all edges, this one first, and who is cut off from the store.
func TestStatusTellsHowEdgesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		one, two := start(t, store, "one"), start(t, store, "two")
		one.link(t, "con_a", 1)
		two.link(t, "con_b", 1)
		two.link(t, "con_c", 1)
		<-time.After(10 * time.Second)
		look := func() []EdgeStatus {
			t.Helper()
			self, edges, err := one.heart.Status(t.Context())
			if err != nil || self != "one" || len(edges) != 2 || edges[0].ID != "one" || edges[1].ID != "two" {
				t.Fatalf("%s, %+v, %v", self, edges, err)
			}
			return edges
		}
		s := look()
		if s[0].State != "live" || s[0].Leases != 1 || s[0].Links != 1 || s[0].Heartbeat > BeatEvery {
			t.Errorf("itself: %+v", s[0])
		}
		if s[1].State != "live" || s[1].Leases != 2 || s[1].Connectors != 2 || s[1].Heartbeat > 2*BeatEvery || s[1].Linked {
			t.Errorf("the other: %+v", s[1])
		}
		one.Linked("two", true)
		store.set(true)
		<-time.After(LeaseLife + BeatEvery)
		s = look()
		if s[0].State != "cut off" || s[0].Heartbeat < LeaseLife || s[1].State != "live" || !s[1].Linked || s[1].Heartbeat < LeaseLife {
			t.Errorf("with the store away: %+v", s)
		}
		store.set(false)
		two.stop()
		one.stop()
	})
}
