package edge

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/store/disktest"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// onSmallDisk gives an edge a state directory on a disk of a few MiB.
func onSmallDisk(t *testing.T, c *Config) {
	t.Helper()
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	disktest.Mount(t, c.StateDir, "size=4m,mode=0700")
}

// served asks until somebody is not served any more, and returns how often they were.
func (n *node) served(cookie string) (served int, last answered) {
	n.t.Helper()
	eventually(n.t, "that nothing can be recorded", func() bool {
		if last = n.ask(oscarHost+"/x", cookie); last.status == http.StatusNoContent {
			served++
		}
		return last.status != http.StatusNoContent
	})
	return served, last
}

// The database is away and the disk that stands in for it is full (attack case H4): everybody is refused, with words, until there is room
// or the database is back, whichever comes first; then all goes on by itself, and what was acknowledged is on record.
func TestTheSpoolsDiskIsFull(t *testing.T) {
	t.Parallel()
	east, _ := nodes(t, pgtest.Database(t), func(i int, c *Config) {
		if i == 0 {
			onSmallDisk(t, c)
		}
	})
	_, cookie := east.signIn()
	east.ready(cookie)
	_, before := decisions(t, east)
	ballast := filepath.Join(east.config.StateDir, "ballast")
	acknowledged := 0
	for _, way := range []string{"there is room", "the database is back"} {
		east.way.Hold(true)
		east.works("at once", cookie, 8*time.Second)
		eventually(t, "that it is known", func() bool { return east.away() && east.standby.Away() })
		acknowledged += 3
		disktest.Fill(t, ballast)
		served, refused := east.served(cookie)
		acknowledged += served
		if refused.status != http.StatusServiceUnavailable || code(refused.body) != "E-RECORD" || !strings.Contains(refused.body, "Access must be recorded before it is given") {
			t.Errorf("a person is told %d: %.1500s", refused.status, refused.body)
		}
		for range 5 {
			if a := east.ask(oscarHost+"/x", cookie); a.status != http.StatusServiceUnavailable || code(a.body) != "E-RECORD" {
				t.Errorf("without room: %d %s", a.status, code(a.body))
			}
		}
		if way == "there is room" {
			remove(t, ballast)
		} else {
			east.way.Hold(false)
		}
		eventually(t, "that it goes on, because "+way, func() bool { return east.ask(oscarHost+"/x", cookie).status == http.StatusNoContent })
		acknowledged++
		east.works(way, cookie, 8*time.Second)
		acknowledged += 3
		east.way.Hold(false)
		eventually(t, "that it is back", func() bool { return !east.away() && !east.standby.Away() })
		if way != "there is room" {
			remove(t, ballast)
		}
		eventually(t, "that nothing waits on the disk", func() bool { waiting, _ := east.spool.Held(); return waiting == 0 })
	}
	settled(t, east)
	if _, all := decisions(t, east); all-before < acknowledged {
		t.Errorf("%d decisions are on record, %d were acknowledged", all-before, acknowledged)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// The disk under PostgreSQL is full, by which it ends in the middle of what it writes. That is the database away: whoever is known goes
// on, nobody signs in, no change is taken; with room all goes on, and what was acknowledged, here or there, is on record.
func TestTheDatabasesDiskIsFull(t *testing.T) {
	t.Parallel()
	server := pgtest.StartSmall(t)
	east, west := nodes(t, server.Database(t), same)
	_, cookie := east.signIn()
	for _, n := range []*node{east, west} {
		n.ready(cookie)
	}
	_, before := decisions(t, east)
	acknowledged := 0
	for range 2 {
		server.Fill(t)
		for _, n := range []*node{east, west} {
			// Those whose commit was on its way then are refused once.
			eventually(t, "that it goes on without", func() bool {
				return n.ask(oscarHost+"/x", cookie).status == http.StatusNoContent && n.away() && n.standby.Away()
			})
			n.works("full", cookie, 8*time.Second)
			acknowledged += 4
			if a := n.ask("signin.maple.example/", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "Nobody can sign in right now") {
				t.Errorf("sign-in: %d %.200s", a.status, a.body)
			}
			if err := n.store.Tenants().CreateSite(t.Context(), tenant.Site{Tenant: "maple", ID: "annex", Created: time.Now()}); !fault.Is(err, fault.Unavailable) {
				t.Errorf("a change: %v", err)
			}
		}
		server.Free(t)
		for _, n := range []*node{east, west} {
			eventually(t, "that it is back", func() bool { return !n.away() && !n.standby.Away() })
			n.works("with room", cookie, 8*time.Second)
			acknowledged += 3
			eventually(t, "that nothing waits on the edge's disk", func() bool { waiting, _ := n.spool.Held(); return waiting == 0 })
		}
	}
	settled(t, east)
	if _, all := decisions(t, east); all-before < acknowledged {
		t.Errorf("%d decisions are on record, %d were acknowledged", all-before, acknowledged)
	}
}
