package edgetest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// twoEdges are one clinic on two edges; its connector has links to the first alone.
func twoEdges(t testing.TB, origin edgetest.Options) (east, west *edgetest.World) {
	t.Helper()
	return twoEdgesOn(t, pgtest.Database(t), origin)
}

func twoEdgesOn(t testing.TB, database string, origin edgetest.Options) (east, west *edgetest.World) {
	t.Helper()
	origin.Store = database
	east = edgetest.Start(t, origin)
	west = east.AddEdge("west")
	west.Wait("the edges to be linked", func() error {
		if !regexp.MustCompile(`sallyport_cluster_peer_links{direction="to"} 1`).MatchString(metrics(t, west)) {
			return fmt.Errorf("no link to the other edge")
		}
		return nil
	})
	return east, west
}

func metrics(t testing.TB, w *edgetest.World) string {
	t.Helper()
	resp, err := http.Get(w.Loopback(w.Edge) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := edgetest.ReadAll(resp)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A doctor whose browser reaches an edge without a link works as at the one that has it, and is cut off as soon.
func TestWorkingAtAnEdgeWithoutTheLink(t *testing.T) {
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{Own: true})
	east, west := twoEdges(t, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin})
	d := atWork(t, west)
	if page := d.open("/oscar/index.jsp"); page == "" {
		t.Error("an empty page")
	}
	got, want, err := d.upload(20 << 20)
	if err != nil || got != want {
		t.Errorf("upload: %v: the application got %s, sent was %s", err, got, want)
	}
	if got, want := d.download("bytes=314572800&seed=7"); got != want {
		t.Errorf("300 MB arrived as %s, want %s", got, want)
	}
	forwarded := metrics(t, west)
	if !regexp.MustCompile(`sallyport_cluster_forwarded_total{edge="east"} [1-9]`).MatchString(forwarded) {
		t.Error("nothing was forwarded")
	}
	if there := metrics(t, east); strings.Contains(there, "sallyport_access_decisions_total{") || !strings.Contains(there, `sallyport_cluster_relayed_total{result="relayed"}`) {
		t.Error("the edge with the link judges once more, or relayed nothing")
	}
	east.Admin("key", "rotate")
	d.open("/oscar/index.jsp")
	east.Admin("key", "rotate", "--emergency") // what runs then may fail once: the connector and this edge learn it on different ways
	west.Wait("work to go on under the new keys", func() error {
		resp, err := d.Fetch(d.ctx(), http.MethodGet, west.URL("/oscar/index.jsp"), nil)
		if err != nil {
			return err
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
	d.open("/oscar/index.jsp")
	o := d.openBoth()
	session := regexp.MustCompile(`ses_[0-9a-f-]+`).FindString(east.Admin("session", "list"))
	east.Admin("session", "revoke", session) // asked at the other edge
	o.mustEnd(t)

	d = atWork(t, west)
	o = d.openBoth()
	east.Admin("user", "disable", d.Email)
	o.mustEnd(t)
	east.Admin("user", "enable", d.Email)

	d = atWork(t, west)
	tomcat.Stop(t)
	resp, err := d.Navigate(d.ctx(), west.URL("/oscar/index.jsp"))
	if err != nil {
		t.Fatal(err)
	}
	if page, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(page, "E-ORIGIN") {
		t.Errorf("the origin is gone: %s, %v: %.300s", resp.Status, err, page)
	}
	east.Connector.Stop()
	resp, err = d.Navigate(d.ctx(), west.URL("/oscar/index.jsp"))
	if err != nil {
		t.Fatal(err)
	}
	if page, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(page, "E-TUNNEL-DOWN") {
		t.Errorf("the connector is gone: %s, %v: %.300s", resp.Status, err, page)
	}
}

// While the database is away a revocation asked of one edge takes effect on the other too, within seconds; it is in the database once
// that is back, and an edge that starts then knows it.
func TestRevocationWhileTheDatabaseIsAway(t *testing.T) {
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{})
	server := pgtest.Start(t)
	east, west := twoEdgesOn(t, server.Database(t), edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin})
	d := atWork(t, west)
	o := d.openBoth()
	session := regexp.MustCompile(`ses_[0-9a-f-]+`).FindString(east.Admin("session", "list"))
	server.Stop(t, "immediate")
	began := time.Now()
	said := east.Admin("session", "revoke", session, "--tenant", "maple")
	if !strings.Contains(said, "on 1 other") {
		t.Errorf("it said %q", said)
	}
	o.mustEnd(t)
	t.Logf("everywhere after %s", time.Since(began))
	resp, err := d.Fetch(d.ctx(), http.MethodGet, west.URL("/oscar/index.jsp"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode == http.StatusOK {
		t.Errorf("a revoked session is let in: %s", resp.Status)
	}
	server.Restart(t)
	east.Wait("the revocation to be written", func() error {
		list, err := east.Try("session", "list")
		if err == nil && strings.Contains(list, session) {
			err = fmt.Errorf("still there: %s", list)
		}
		return err
	})
}

// Not one request of browsers at one edge fails while the other one, which has the connector's links, is replaced by a new process.
func TestNoForwardedRequestFailsWhileTheOtherEdgeIsReplaced(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	east, west := twoEdges(t, edgetest.Options{Origin: origin.URL})
	l := newLoad(t, doctor{west.SignIn(), t, west}, without{http3: true, files: true, socket: true})
	for range replacements() - 1 {
		l.more()
		old := east.Edge
		east.Edge = old.Successor()
		l.more()
		select {
		case <-old.Ended():
		case <-time.After(45 * time.Second):
			t.Fatal("the old edge does not end")
		}
	}
	l.more()
	l.end()
}
