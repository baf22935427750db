package edgetest_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// Two edges behind HAProxy. Each is stopped and started in turn while a clinic works over connections that browsers keep alive: not
// one request fails, not even those that nobody can send twice. Then one is killed: new requests are answered within 5 s. What is on
// record names the browser's address and not HAProxy's.
func TestRollingRestartBehindABalancer(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	health := map[string]string{"east": edgetest.FreeAddress(t), "west": edgetest.FreeAddress(t)}
	database := pgtest.Database(t)
	east := edgetest.Start(t, edgetest.Options{
		Store: database, Origin: origin.URL, Spread: true, NoConnector: true,
		More: func(name string) string { return edgetest.BehindBalancer(health[name], 5*time.Second) },
	})
	west := east.AddEdge("west")
	port := edgetest.StartBalancer(t, edgetest.Backend{Address: east.EdgeAddr(), Health: health["east"]}, edgetest.Backend{Address: west.EdgeAddr(), Health: health["west"]})
	east.Connector.Start()
	t.Cleanup(east.Connector.Stop)
	edges := map[string]*edgetest.World{"east": east, "west": west}
	inPlace := func(name string) {
		t.Helper()
		states(t, edges[name], map[string]string{"east": "live", "west": "live"})
		edges[name].WaitForLink()
	}
	inPlace("east")
	inPlace("west")

	world := *east // as browsers see it
	world.Port = port
	d := doctor{east.SignIn(), t, &world}
	l := newLoad(t, d, without{http3: true, files: true, socket: true})
	l.more()
	for name, w := range edges {
		w.Edge.Stop()
		l.more()
		w.Edge.Start()
		inPlace(name)
		l.more()
	}
	l.end()

	const home = "127.0.0.77"
	west.Edge.Kill()
	killed, failed := time.Now(), time.Duration(0)
	for well := 0; well < 20; {
		if err := anew(&world, d, home); err == nil {
			well++
		} else if well, failed = 0, time.Since(killed); failed > 5*time.Second {
			t.Fatalf("%s after an edge was killed: %v", failed, err)
		}
	}
	t.Logf("the last new request failed %s after an edge was killed", failed)
	fromHome(t, east, database, home)
}

// anew asks over a connection of its own, from an address.
func anew(w *edgetest.World, d doctor, from string) error {
	one := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots, Source: net.ParseIP(from)})
	defer one.Close()
	one.Client.Jar = d.Client.Jar
	resp, err := one.Fetch(d.ctx(), http.MethodGet, w.URL("/oscar/echo"), nil)
	if err != nil {
		return err
	}
	text, err := edgetest.ReadAll(resp)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	return err
}

// fromHome looks for decisions about requests from an address, and for any that names the balancer's.
func fromHome(t *testing.T, w *edgetest.World, database, home string) {
	t.Helper()
	sealer, err := secret.LoadMaster(filepath.Join(w.Dir, "edge", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{PostgreSQL: store.PostgreSQL{URL: database}}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	there := 0
	for after := int64(0); ; {
		some, err := db.Audit().Decisions(t.Context(), "maple", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range some {
			if after = one.Sequence; one.ClientIP == home {
				there++
			} else if one.ClientIP == edgetest.BalancerSource {
				t.Fatalf("decision %d names the balancer as the client", one.Sequence)
			}
		}
		if len(some) == 0 {
			break
		}
	}
	if there < 20 {
		t.Errorf("%d decisions name %s as the client", there, home)
	}
}
