package edgetest_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// One connector, linked to two edges: one is killed, and browsers at the other notice nothing; it comes back and gets its links
// again; the other one stops in good order, and browsers at the first notice nothing of that either.
func TestOneOfTwoEdgesIsKilled(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	east := edgetest.Start(t, edgetest.Options{Store: pgtest.Database(t), Origin: origin.URL, Spread: true, NoConnector: true})
	west := east.AddEdge("west")
	for _, w := range []*edgetest.World{east, west} {
		states(t, w, map[string]string{"east": "live", "west": "live"})
	}
	east.Connector.Start()
	t.Cleanup(east.Connector.Stop)
	east.WaitForLink()
	west.WaitForLink()

	l := newLoad(t, doctor{west.SignIn(), t, west}, without{http3: true, files: true, socket: true})
	l.more()
	east.Edge.Kill()
	l.more()
	l.end()

	east.Edge.Start()
	states(t, east, map[string]string{"east": "live", "west": "live"})
	east.WaitForLink()
	l = newLoad(t, doctor{east.SignIn(), t, east}, without{http3: true, files: true, socket: true})
	l.more()
	west.Edge.Stop()
	l.more()
	l.end()
	states(t, east, map[string]string{"east": "live"})
}

// states waits until an edge knows these edges, in these states, and no others.
func states(t *testing.T, w *edgetest.World, want map[string]string) {
	t.Helper()
	w.Wait(fmt.Sprintf("the edges to be %v", want), func() error {
		text, err := w.Try("cluster", "status")
		if err != nil {
			return err
		}
		got := map[string]string{}
		lines := strings.Split(text, "\n")
		end := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "schema version ") })
		if end < 1 {
			return fmt.Errorf("%s", text)
		}
		for _, line := range lines[1:end] {
			fields := strings.Fields(line)
			got[fields[0]] = fields[1]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}
