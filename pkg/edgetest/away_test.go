package edgetest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// outage is a clinic on two edges whose database fails; somebody is signed in at each.
type outage struct {
	t          *testing.T
	server     *pgtest.Server
	database   string
	east, west *edgetest.World
	people     map[*edgetest.World]*edgetest.Visitor
	answered   int // requests that the application answered
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	o := &outage{t: t, server: pgtest.Start(t)}
	o.database = o.server.Database(t)
	o.east, o.west = twoEdgesOn(t, o.database, edgetest.Options{Origin: origin.URL})
	o.people = map[*edgetest.World]*edgetest.Visitor{o.east: o.east.SignIn(), o.west: o.west.SignIn()}
	o.work("at first", time.Minute)
	return o
}

// work has each person ask a few times; each answer must come within limit.
func (o *outage) work(when string, limit time.Duration) {
	o.t.Helper()
	for w, v := range o.people {
		for range 3 {
			began := time.Now()
			resp, err := v.Fetch(o.t.Context(), http.MethodGet, w.URL("/oscar/wire/status?code=204"), nil)
			if err != nil {
				o.t.Fatal(err)
			}
			text, err := edgetest.ReadAll(resp)
			if err != nil || resp.StatusCode != http.StatusNoContent || time.Since(began) > limit {
				o.t.Errorf("%s: %s after %s, %v: %.300s", when, resp.Status, time.Since(began), err, text)
				continue
			}
			o.answered++
		}
	}
}

// known waits until both edges know that the database is away.
func (o *outage) known() {
	o.t.Helper()
	for w, v := range map[*edgetest.World]*edgetest.Visitor{o.east: o.east.Visitor(), o.west: o.west.Visitor()} {
		w.Wait("sign-in to be paused", func() error {
			began := time.Now()
			resp, err := v.Navigate(o.t.Context(), w.URL("/oscar/index.jsp"))
			if err != nil {
				return err
			}
			page, err := edgetest.ReadAll(resp)
			if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "Nobody can sign in right now") || resp.Header.Get("Retry-After") == "" {
				return fmt.Errorf("%s after %s, %v: %.500s", resp.Status, time.Since(began), err, page)
			}
			return nil
		})
	}
}

var recorded = regexp.MustCompile(`(?m)^sallyport_audit_spool_records (\d+)`)

// merged waits until nothing waits on the edges' disks.
func (o *outage) merged() {
	o.t.Helper()
	for _, w := range []*edgetest.World{o.east, o.west} {
		w.Wait("the spool to be merged", func() error {
			found := recorded.FindStringSubmatch(metrics(o.t, w))
			if found == nil || found[1] != "0" {
				return fmt.Errorf("waiting: %v", found)
			}
			return nil
		})
	}
}

// The database is killed, comes back, hangs, and goes on. Whoever is signed in works all the while, on both edges; nobody signs in, and
// changes are refused with what to do; every answer of the application is on record once, with its outcome.
func TestTheDatabaseIsAway(t *testing.T) {
	o := newOutage(t)
	for _, failure := range []struct {
		name          string
		fail, recover func()
	}{
		{"killed", func() { o.server.Kill(t) }, func() { o.server.Restart(t) }},
		{"hangs", func() { o.server.Signal(t, syscall.SIGSTOP) }, func() { o.server.Signal(t, syscall.SIGCONT) }},
	} {
		failure.fail()
		o.work(failure.name+", at once", 10*time.Second)
		o.known()
		o.work(failure.name+", known", 2*time.Second)
		began := time.Now()
		if out, err := o.east.Try("user", "add", "dr.new@maple.example", "--quiet"); err == nil || !strings.Contains(err.Error(), "store") {
			t.Errorf("%s: a change: %s, %v", failure.name, out, err)
		} else {
			t.Logf("%s: a change is answered after %s: %v", failure.name, time.Since(began).Round(time.Millisecond), err)
		}
		failure.recover()
		o.merged()
		o.work(failure.name+", back", 5*time.Second)
	}
	o.east.Wait("sign-in to work", func() error {
		if _, err := o.east.Try("user", "add", "dr.new@maple.example", "--quiet"); err != nil {
			return err
		}
		return nil
	})
	o.east.SignIn()
	o.onRecord()
}

// onRecord checks that what was answered is on record once, with its outcome.
func (o *outage) onRecord() {
	o.t.Helper()
	o.east.Wait("outcomes", func() error {
		rows := o.server.Query(o.t, o.database, `SELECT COUNT(*) || ' ' || COUNT(DISTINCT d.request) || ' ' || COUNT(o.sequence) FROM decisions d
			LEFT JOIN outcomes o ON o.tenant = d.tenant AND o.sequence = d.sequence AND o.status = 204 WHERE d.effect = 'allow' AND o.status = 204`)
		var all, requests, outcomes int
		if _, err := fmt.Sscan(rows[0], &all, &requests, &outcomes); err != nil {
			return err
		}
		if all != o.answered || requests != all || outcomes != all {
			return errors.New(rows[0] + ", and answered were " + strconv.Itoa(o.answered))
		}
		return nil
	})
}
