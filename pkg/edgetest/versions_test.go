package edgetest_test

import (
	"net/http/httptest"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// The version before, whose programs these tests mix with the present ones; moved on at each release.
const (
	// before is the last one of a single edge on SQLite: its schema knows no cluster, and it does not go on after a newer edge.
	before = "e36c699"
	// beforeOfMany is the first one that knows clusters and loses nothing that it forwards when it is replaced.
	beforeOfMany = "7266503"
)

// An edge is upgraded in its place, and its connector before or after it, while people work: nothing fails. Files are left out: that
// version now and then broke one off that was under way when it was replaced.
func TestUpgradeOfOneEdge(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	now, then := edgetest.Programs(t), edgetest.Earlier(t, before)
	for name, connectorFirst := range map[string]bool{"edge first": false, "connector first": true} {
		t.Run(name, func(t *testing.T) {
			w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, Programs: then})
			l := newLoad(t, atWork(t, w), without{http3: true, files: true, socket: true})
			l.more()
			if connectorFirst {
				restartFrom(w, now)
				l.more()
			}
			replaceFrom(t, w, now)
			l.more()
			if !connectorFirst {
				restartFrom(w, now)
				l.more()
			}
			l.end()
		})
	}
}

// Of two edges on one store and a connector each is upgraded and taken back again, in turn, while people work at the edge that has
// no link of its own: every pair of versions speaks with each other, on one schema, and nothing fails.
func TestVersionsSideBySide(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	now, then := edgetest.Programs(t), edgetest.Earlier(t, beforeOfMany)
	east, west := twoEdges(t, edgetest.Options{Origin: origin.URL, Programs: then})
	l := newLoad(t, atWork(t, west), without{http3: true, socket: true})
	l.more()
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"the edge with the link goes on", func() { replaceFrom(t, east, now) }},
		{"the other edge goes on", func() { replaceFrom(t, west, now) }},
		{"the edge with the link goes back", func() { replaceFrom(t, east, then) }},
		{"the connector goes on", func() { restartFrom(east, now) }},
		{"the other edge goes back", func() { replaceFrom(t, west, then) }},
		{"the connector goes back", func() { restartFrom(east, then) }},
		{"the other edge goes on again", func() { replaceFrom(t, west, now) }},
	} {
		t.Log(step.what)
		step.do()
		l.more()
	}
	l.end()
}

// replaceFrom replaces the running edge by one of the programs in dir, which takes its sockets over.
func replaceFrom(t *testing.T, w *edgetest.World, dir string) {
	t.Helper()
	old := w.Edge
	old.From(dir)
	w.Edge = old.Successor()
	<-old.Ended()
	if code := old.ExitCode(); code != 0 {
		t.Errorf("the old edge ended with %d", code)
	}
}

// restartFrom stops the connector and starts that of the programs in dir. Requests wait for it.
func restartFrom(w *edgetest.World, dir string) {
	w.Connector.From(dir)
	w.Connector.Stop()
	w.Connector.Start()
	w.WaitForLink()
}
