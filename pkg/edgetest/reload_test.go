package edgetest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// rewrite changes a configuration file, and has the process read it.
func rewrite(t testing.TB, w *edgetest.World, name string, p *edgetest.Process, change func(string) string) {
	t.Helper()
	path := filepath.Join(w.Dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
}

// An operator names another edge in the running edge's configuration: the connectors have links there within seconds, nobody
// restarts anything, and no request fails. A list with a fault in it changes nothing.
func TestLinksFollowTheListOfEdgesInTheConfiguration(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	east, west := twoEdges(t, edgetest.Options{Origin: origin.URL})
	l := newLoad(t, doctor{east.SignIn(), t, east}, without{http3: true, files: true, socket: true})
	l.more()
	pid := east.Edge.PID()
	list := func(url string) func(string) string {
		return func(text string) string {
			head, _, _ := strings.Cut(text, "edges: ")
			return head + "edges: [{url: \"" + url + "\"}]\n"
		}
	}
	there := fmt.Sprintf("https://edge.localhost:%d", west.Port)
	rewrite(t, east, "edge.yaml", east.Edge, list("ftp://edge.localhost"))
	east.Wait("the fault to be told", func() error {
		if !strings.Contains(metrics(t, east), `sallyport_config_reload_total{result="rejected"} 1`) {
			return errors.New("not yet")
		}
		return nil
	})
	for _, w := range []*edgetest.World{west, east} { // at the one that connectors listen to last
		rewrite(t, w, "edge.yaml", w.Edge, list(there))
	}
	west.Wait("links to the other edge", func() error {
		if _, up := linksOf(t, east)[there]; !up {
			return errors.New("none")
		}
		return nil
	})
	l.more()
	l.end()
	if east.Edge.PID() != pid {
		t.Error("the edge is another process")
	}
}

// linksOf lists the connector's links that are up, by edge.
func linksOf(t testing.TB, w *edgetest.World) map[string][]connector.LinkStatus {
	t.Helper()
	resp, err := http.Get(w.Loopback(w.Connector) + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status connector.Status
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	out := map[string][]connector.LinkStatus{}
	for _, l := range status.Links {
		if l.Up {
			out[l.Edge] = append(out[l.Edge], l)
		}
	}
	return out
}
