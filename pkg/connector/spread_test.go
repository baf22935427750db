package connector

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// pickEdges is which edges many connectors hold links to.
func pickEdges(connectors int, list []*tunnelv1.EdgeAddress) (held [][]string, count map[string]int) {
	addresses, count := make([]edgeAddress, len(list)), map[string]int{}
	for i, e := range list {
		addresses[i] = edgeAddress{URL: e.GetUrl(), Weight: e.GetWeight()}
	}
	for i := range connectors {
		urls := choose(order(addresses, addresses[0].URL, fmt.Sprintf("con_%d", i)), nil, time.Time{})
		held = append(held, urls)
		for _, u := range urls {
			count[u]++
		}
	}
	return held, count
}

func peersNamed(names ...string) (out []cluster.Peer) {
	for _, n := range names {
		out = append(out, cluster.Peer{ID: "e", URL: "https://" + n + ".example", Weight: 100, Share: 10})
	}
	return out
}

// A new edge gets its share from those that there are, and nobody else moves.
func TestANewEdgeFillsUp(t *testing.T) {
	const many = 600
	two, three := peersNamed("one", "two", "three"), peersNamed("one", "two", "three", "four")
	before, _ := pickEdges(many, cluster.EdgeList(two[0], two[1:]))
	after, count := pickEdges(many, cluster.EdgeList(three[0], three[1:]))
	for url, n := range count {
		if fair := many * atOnce / 4; n < fair*8/10 || n > fair*12/10 {
			t.Errorf("%s has %d of %d, fair is %d", url, n, many*atOnce, fair)
		}
	}
	for i := range before {
		for _, url := range after[i] {
			if !slices.Contains(before[i], url) && url != "https://four.example" {
				t.Fatalf("connector %d moved from %v to %v", i, before[i], after[i])
			}
		}
	}
}

// Less weight moves a few connectors off, and none between the other edges.
func TestLessWeightMovesAFew(t *testing.T) {
	const many = 600
	peers := peersNamed("one", "two", "three")
	before, full := pickEdges(many, cluster.EdgeList(peers[0], peers[1:]))
	peers[0].Weight = 90
	after, less := pickEdges(many, cluster.EdgeList(peers[0], peers[1:]))
	moved := 0
	for i := range before {
		slices.Sort(before[i])
		slices.Sort(after[i])
		if !slices.Equal(before[i], after[i]) {
			moved++
		}
	}
	lost := full[peers[0].URL] - less[peers[0].URL]
	if lost != moved || moved == 0 || moved > many/10 {
		t.Errorf("%d moved, %d of them off the edge", moved, lost)
	}
}

func listening(t *testing.T) *edges {
	return &edges{
		shared: shared{cfg: Config{StateDir: t.TempDir()}, logger: zap.NewNop()},
		waken:  make(chan struct{}, 1), givenUp: map[string]doubt{},
	}
}

func told(names ...string) *tunnelv1.Edges {
	m := &tunnelv1.Edges{}
	for _, n := range names {
		m.Edges = append(m.Edges, &tunnelv1.EdgeAddress{Url: "https://" + n + ".example", Weight: 1})
	}
	return m
}

// The first list counts at once, one that lacks an edge soon, one with another edge within 20 s, and none sooner than 10 s after
// the one before; a list that comes in between is not forgotten.
func TestWhenAListIsActedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := listening(t)
		after := func(d time.Duration, want int) {
			t.Helper()
			<-time.After(d)
			if e.turn(time.Now()); len(e.list) != want {
				t.Errorf("%d edges after %v, want %d", len(e.list), d, want)
			}
		}
		e.learn(told("one", "two"))
		after(0, 2)
		e.learn(told("one"))
		after(5*time.Second, 2)
		after(6*time.Second, 1)
		<-time.After(time.Minute)
		e.learn(told("one", "two", "three"))
		after(spread, 3)
		e.learn(told("one", "two"))
		e.learn(told("one", "two", "three")) // another edge thinks otherwise
		after(time.Minute, 3)
		e.learn(told("one", "two"))
		after(hurry, 2)
	})
}

// An edge that was given up and is listed anew is tried again.
func TestAListedEdgeIsTriedAgain(t *testing.T) {
	e := listening(t)
	now := time.Now()
	e.list = []edgeAddress{{URL: "https://one.example", Weight: 1}, {URL: "https://two.example", Weight: 1}}
	later := doubt{until: now.Add(time.Minute)}
	e.givenUp["https://two.example"], e.givenUp["https://three.example"] = later, later
	e.learn(told("one", "two", "three"))
	e.turn(now.Add(spread))
	if _, still := e.givenUp["https://three.example"]; still || len(e.givenUp) != 1 {
		t.Errorf("given up: %v", e.givenUp)
	}
}
