package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

func TestAnEdgeWithTooManyGivesItselfLessWeight(t *testing.T) {
	for _, c := range []struct {
		name         string
		weight, want uint32
		mine         int
		fair         float64
	}{
		{"its share", 100, 100, 100, 100},
		{"a little over: left as it is", 100, 100, 114, 100},
		{"over", 100, 90, 150, 100},
		{"over, by no more than that", 100, 90, 300, 100},
		{"a little over while it gives less: left as it is", 80, 80, 110, 100},
		{"on its share again: takes back a step", 80, 89, 104, 100},
		{"back at its full weight", 95, 100, 90, 100},
		{"never more than that", 100, 100, 10, 100},
		{"never nothing", 26, 25, 500, 100},
		{"two too many of few are not worth it", 100, 100, 6, 4},
		{"three are", 100, 90, 7, 4},
		{"nobody", 100, 100, 0, 0},
	} {
		if got := even(10, c.weight, c.mine, c.fair); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestTheShareOfAnEdge(t *testing.T) {
	peer := func(share uint32, connectors int) Peer {
		return Peer{URL: "https://e.example", Share: share, Connectors: connectors}
	}
	gone, draining := peer(10, 40), peer(10, 40)
	gone.Lapsed, draining.Draining = true, true
	if fair, ok := fairShare(peer(10, 90), []Peer{peer(20, 100), peer(10, 10), gone, draining}); !ok || fair != 50 {
		t.Errorf("%v, %v", fair, ok)
	}
	if _, ok := fairShare(peer(10, 90), []Peer{peer(10, 10), gone}); ok {
		t.Error("two edges: every connector is linked to both")
	}
	if _, ok := fairShare(draining, []Peer{peer(10, 1), peer(10, 1), peer(10, 1)}); ok {
		t.Error("an edge that drains evens nothing out")
	}
}

// Connectors are told the same by every edge, and of no edge that takes no links.
func TestTheListOfEdges(t *testing.T) {
	one, two := Peer{ID: "one", URL: "https://one.example", Weight: 90}, Peer{ID: "two", URL: "https://two.example"}
	lapsed, draining := Peer{ID: "a", URL: "https://a.example", Lapsed: true}, Peer{ID: "b", URL: "https://b.example", Draining: true}
	here, there := EdgeList(two, []Peer{one, lapsed, draining, {ID: "c"}}), EdgeList(one, []Peer{draining, two, {ID: "z", URL: two.URL}})
	for _, list := range [][]string{{here[0].GetUrl(), here[1].GetUrl()}, {there[0].GetUrl(), there[1].GetUrl()}} {
		if list[0] != one.URL || list[1] != two.URL {
			t.Errorf("%v", list)
		}
	}
	if len(here) != 2 || len(there) != 2 || here[0].GetWeight() != 90 || here[1].GetWeight() != 1 {
		t.Errorf("%v, %v", here, there)
	}
	if list := EdgeList(draining, nil); len(list) != 0 {
		t.Errorf("an edge that drains alone: %v", list)
	}
}

// What an edge gives itself reaches the others with its heartbeat.
func TestTheWeightTravelsWithTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		full := start(t, store, "full")
		others := []*node{start(t, store, "two"), start(t, store, "three")}
		for range 20 {
			full.link(t, id.NewConnector(), 1)
		}
		<-time.After(2*evenEvery + 3*BeatEvery)
		p, _ := others[0].Peer("full")
		if p.Weight >= DefaultWeight*unit || p.Weight < DefaultWeight*unit*7/10 {
			t.Errorf("weight %d", p.Weight)
		}
		if p, _ := full.Peer("two"); p.Weight != DefaultWeight*unit {
			t.Errorf("one with none gives itself %d", p.Weight)
		}
		for _, n := range append(others, full) {
			n.stop()
		}
	})
}

// An edge comes that has no connectors yet: what the others have over their shares is on its way to it, and no surplus.
func TestEdgesKeepTheirWeightWhileANewOneFillsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		all := []*node{start(t, store, "one"), start(t, store, "two"), start(t, store, "three")}
		for _, n := range all {
			for range 20 {
				n.link(t, id.NewConnector(), 1)
			}
		}
		<-time.After(3 * evenEvery)
		all = append(all, start(t, store, "new"))
		weight := func(want bool, after time.Duration) {
			t.Helper()
			<-time.After(after)
			if p, _ := all[3].Peer("one"); p.Weight == DefaultWeight*unit != want {
				t.Errorf("weight %d", p.Weight)
			}
		}
		weight(true, evenEvery-BeatEvery)
		weight(false, 4*BeatEvery) // they have had time, and did not go
		for _, n := range all {
			n.stop()
		}
	})
}
