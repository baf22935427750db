package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/porttest"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const oscarHost = "oscar.maple.example"

// node is one edge of several on one PostgreSQL, in this process, and its own way to the database.
type node struct {
	*Edge
	t      *testing.T
	way    *pgtest.Relay
	client *http.Client
	stop   func()
	wall   func() time.Time // the machine's clock, nil for this one's
}

// start runs the node's edge, or a new one in its place.
func (n *node) start(c Config) {
	n.t.Helper()
	e, err := assemble(n.t.Context(), c, zap.NewNop(), cluster.NewClock(n.wall))
	if err != nil {
		n.t.Fatal(err)
	}
	n.Edge, n.stop, n.client = e, serving(n.t, e), browserOf(n.t, e)
}

// nodes are edges of one cluster, of which the first has the link of a clinic's connector.
func nodes(t *testing.T, database string, change func(i int, c *Config)) (east, west *node) {
	t.Helper()
	east, west = nodesBy(t, database, [2]func() time.Time{}, change)
	east.connector()
	return east, west
}

// nodesBy are edges whose machines' clocks are these, without a connector.
func nodesBy(t *testing.T, database string, clocks [2]func() time.Time, change func(i int, c *Config)) (east, west *node) {
	t.Helper()
	var all [2]*node
	var first Config
	for i, name := range []string{"east", "west"} {
		n := &node{t: t}
		c := Default()
		c.StateDir, c.Host, c.Listen, c.Loopback = filepath.Join(t.TempDir(), "state"), "edge.example", "127.0.0.1:0", "127.0.0.1:0"
		if c.Store = database; !strings.Contains(database, ",") {
			n.way, c.Store = pgtest.Through(t, database)
		}
		c.Cluster.Edge, c.Cluster.Listen = name, fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
		change(i, &c)
		if i == 0 {
			first = c
		} else if err := errors.Join(os.MkdirAll(c.StateDir, 0o700), copyFile(first.masterKey(), c.masterKey())); err != nil {
			t.Fatal(err)
		}
		if _, err := Init(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		n.wall = clocks[i]
		n.start(c)
		all[i] = n
		if i == 0 {
			n.clinic()
		}
	}
	return all[0], all[1]
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

func browserOf(t *testing.T, e *Edge) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // each edge of the test has a CA of its own
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.Addr().String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

const doctor id.User = "usr_lee"

func (n *node) clinic() {
	n.t.Helper()
	ctx, now := n.t.Context(), time.Now()
	allow := policy.Rule{ID: "r", Effect: policy.Allow, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: string(doctor)}}}
	for _, err := range []error{
		n.store.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: "signin.maple.example", Created: now}),
		n.store.Tenants().CreateSite(ctx, tenant.Site{Tenant: "maple", ID: "main", Created: now}),
		n.store.Tenants().CreateApp(ctx, tenant.App{
			Tenant: "maple", ID: "app_1", Host: oscarHost, Path: "/", Site: "main", Name: "OSCAR", Rules: []policy.Rule{allow}, Created: now,
		}),
		n.store.Identity().CreateUser(ctx, identity.User{
			Tenant: "maple", ID: doctor, Issuer: identity.LocalIssuer, Subject: string(doctor), Email: "dr.lee@maple.example", Created: now,
		}),
	} {
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// connector gives the node a link behind which everything is answered with 204.
func (n *node) connector() {
	n.t.Helper()
	near, far := exchangetest.Memory()
	leave, err := n.registry.Join(registry.Member{
		Tenant: "maple", Site: "main", Connector: "con_1", Generation: 1, Lane: tunnelv1.Lane_LANE_FAST, Link: near,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := far.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() {
				if _, err := wire.ReadKind(s); err == nil {
					_ = exchange.Serve(ctx, s, empty{})
				}
			})
		}
	})
	n.t.Cleanup(func() {
		leave()
		_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		cancel()
		running.Wait()
	})
}

type empty struct{}

func (empty) ServeExchange(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
	if out.Head(wire.ResponseHead{Status: http.StatusNoContent}) == nil {
		_ = out.End(nil)
	}
}

// signIn makes a session of the doctor's and returns its name and the cookie.
func (n *node) signIn() (id.Session, string) {
	n.t.Helper()
	now, value := time.Now(), session.NewSecret()
	s := session.Session{
		Tenant: "maple", ID: id.NewSession(), User: doctor, Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}
	n.keep(s, value)
	return s.ID, value
}

func (n *node) keep(s session.Session, value string) {
	n.t.Helper()
	err := n.store.Sessions().CreateSession(n.t.Context(), s, session.Reference{
		Tenant: s.Tenant, Hash: secret.Hash(value), Session: s.ID, Host: oscarHost, Created: s.Created,
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// answered is what a browser got.
type answered struct {
	status int
	body   string
	header http.Header
	took   time.Duration
}

func (n *node) ask(to, cookie string, more ...*http.Cookie) answered {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "https://"+to, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "none")
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: cookie})
	}
	for _, c := range more {
		r.AddCookie(c)
	}
	began := time.Now()
	resp, err := n.client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return answered{resp.StatusCode, string(body), resp.Header, time.Since(began)}
}

// works has the doctor ask a few times: every answer comes soon, and the quickest within limit, which says whether the edge waits for
// something; a busy machine may hold one up.
func (n *node) works(when, cookie string, limit time.Duration) {
	n.t.Helper()
	const soon = 8 * time.Second
	quickest := time.Hour
	for range 3 {
		a := n.ask(oscarHost+"/x", cookie)
		if a.status != http.StatusNoContent || a.took > max(limit, soon) {
			n.t.Errorf("%s: %d after %s: %.200s", when, a.status, a.took, code(a.body))
		}
		quickest = min(quickest, a.took)
	}
	if quickest > limit {
		n.t.Errorf("%s: each took %s and more", when, quickest)
	}
}

// code is the E-… that a page or an answer names.
func code(body string) string {
	i := strings.Index(body, "E-")
	if i < 0 {
		return body
	}
	return strings.FieldsFunc(body[i:], func(r rune) bool { return r != '-' && (r < 'A' || r > 'Z') })[0]
}

// ready waits until the clinic is served by a node, with a session that it does not know yet.
func (n *node) ready(cookie string) {
	n.t.Helper()
	eventually(n.t, "the clinic to be served", func() bool {
		if _, ok := n.routes.Load().Host(oscarHost); !ok {
			return false
		}
		return n.ask(oscarHost+"/x", cookie).status == http.StatusNoContent
	})
}

// decisions are those on record that have an outcome, whatever it is, and all.
func decisions(t *testing.T, n *node) (whole, all int) {
	t.Helper()
	ds, err := n.store.Audit().Decisions(t.Context(), "maple", 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := n.store.Audit().Outcomes(t.Context(), "maple", 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	concluded := map[int64]bool{}
	for _, o := range outcomes {
		concluded[o.Sequence] = true
	}
	seen := map[id.Request]bool{}
	for i, d := range ds {
		if d.Sequence != int64(i+1) || seen[d.Request] {
			t.Errorf("decision %d of request %s is at %d, or twice", d.Sequence, d.Request, i+1)
		}
		if seen[d.Request] = true; concluded[d.Sequence] {
			whole++
		}
	}
	return whole, len(ds)
}

// settled waits until everything that was decided is on record with its outcome.
func settled(t *testing.T, n *node) {
	t.Helper()
	var whole, all int
	defer func() {
		if whole != all {
			t.Errorf("%d of %d decisions have an outcome", whole, all)
			ds, _ := n.store.Audit().Decisions(t.Context(), "maple", 0, 10_000)
			outcomes, _ := n.store.Audit().Outcomes(t.Context(), "maple", 0, 10_000)
			for _, d := range ds {
				o := slices.IndexFunc(outcomes, func(o audit.Outcome) bool { return o.Sequence == d.Sequence })
				if o < 0 {
					t.Errorf("none: %+v", d)
				} else {
					t.Logf("%d %s %s %s | %s %d", d.Sequence, d.Time.Format("05.000"), d.Effect, d.Reason, outcomes[o].Time.Format("05.000"), outcomes[o].Status)
				}
			}
		}
	}()
	eventually(t, "the records to be whole", func() bool {
		whole, all = decisions(t, n)
		return whole == all
	})
}

func same(int, *Config) {}

// One edge is cut off from the database, which says nothing any more; the other one is not, and neither are they from each other. Whoever
// is known at the first goes on, through the link of the other; whom it does not know is refused, nobody signs in, a change is refused
// with words, and what the other edge revokes ends within seconds. Its records are there when the way is.
func TestAnEdgeCutFromTheDatabase(t *testing.T) {
	t.Parallel()
	east, west := nodes(t, pgtest.Database(t), same)
	known, cookie := west.signIn()
	_, stays := west.signIn()
	_, stranger := west.signIn()
	west.ready(cookie)
	west.ready(stays)
	west.way.Hold(true)
	west.works("at once", cookie, 8*time.Second)
	eventually(t, "that it is known", west.away)
	if text := record(west.loopbackHandler(), "/metrics").Body.String(); !strings.Contains(text, "\nsallyport_store_away 1\n") {
		t.Error("the metrics do not tell")
	}
	west.works("known", cookie, 2*time.Second)
	if a := west.ask(oscarHost+"/x", stranger); a.status != http.StatusServiceUnavailable || code(a.body) != "E-STORE" || a.header.Get("Retry-After") == "" {
		t.Errorf("not known here: %d %s", a.status, code(a.body))
	}
	if a := west.ask("signin.maple.example/", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "Nobody can sign in right now") || a.header.Get("Retry-After") == "" {
		t.Errorf("sign-in: %d %.200s", a.status, a.body)
	}
	if a := west.ask(oscarHost+"/x", ""); a.status >= 500 || a.status == http.StatusNoContent {
		t.Errorf("nobody: %d", a.status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := adminapi.Dial(west.config.Socket()).CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: "maple", Id: "new"}); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("a change: %v", err)
	}
	east.works("at the other edge", cookie, 5*time.Second)
	began := time.Now()
	if err := east.store.Sessions().Revoke(t.Context(), "maple", known, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation to arrive", func() bool { return west.ask(oscarHost+"/x", cookie).status != http.StatusNoContent })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("revoked after %s", took)
	}
	west.works("somebody else", stays, 2*time.Second)
	west.way.Hold(false)
	eventually(t, "that it is back", func() bool { return !west.away() && !west.standby.Away() })
	west.works("back", stays, 5*time.Second)
	settled(t, east)
}

// The database answers late: within bounds requests wait for it, beyond them they do not.
func TestTheDatabaseIsSlow(t *testing.T) {
	t.Parallel()
	east, _ := nodes(t, pgtest.Database(t), same)
	_, cookie := east.signIn()
	east.ready(cookie)
	east.way.Delay(10 * time.Millisecond)
	east.works("a little", cookie, 3*time.Second)
	if east.standby.Away() {
		t.Error("records go to the spool for nothing")
	}
	east.way.Delay(400 * time.Millisecond)
	east.works("much", cookie, 9*time.Second)
	east.works("much, and known", cookie, 2*time.Second)
	east.way.Delay(0)
	eventually(t, "that it is quick again", func() bool { return !east.away() && !east.standby.Away() })
	east.works("quick again", cookie, 3*time.Second)
	settled(t, east)
}

// The commit of a decision is on its way when the database is lost: it took place, or it did not. Whoever waits for the page gets it a little
// later, and all is on record once.
func TestACommitIsNotAnswered(t *testing.T) {
	t.Parallel()
	for name, took := range map[string]bool{"took place": true, "did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, _ := nodes(t, pgtest.Database(t), same)
			_, cookie := east.signIn()
			east.ready(cookie)
			east.way.CutOffCommitOf(oscarHost, took)
			for east.way.Waits() {
				if a := east.ask(oscarHost+"/x", cookie); a.status != http.StatusNoContent || a.took > 8*time.Second {
					t.Fatalf("%d %s after %s", a.status, code(a.body), a.took)
				}
			}
			east.works("the database is away", cookie, 5*time.Second)
			east.way.Restore()
			eventually(t, "that it is back", func() bool { return !east.away() && !east.standby.Away() })
			east.works("back", cookie, 5*time.Second)
			eventually(t, "that nothing waits", func() bool { waiting, _ := east.spool.Held(); return waiting == 0 })
			settled(t, east)
		})
	}
}

// Edges that do not reach each other: each serves what it has a link for, and a revocation still reaches all by the change log.
func TestEdgesCutFromEachOther(t *testing.T) {
	t.Parallel()
	east, west := nodes(t, pgtest.Database(t), func(_ int, c *Config) { c.Cluster.Advertise = "127.0.0.1:9" }) // nobody answers there
	one, cookie := west.signIn()
	east.ready(cookie)
	eventually(t, "the clinic to be known", func() bool { _, ok := west.routes.Load().Host(oscarHost); return ok })
	if a := west.ask(oscarHost+"/x", cookie); a.status != http.StatusServiceUnavailable || code(a.body) != "E-TUNNEL-DOWN" || a.took > 8*time.Second {
		t.Errorf("no link here, and none to the other edge: %d %s after %s", a.status, code(a.body), a.took)
	}
	began := time.Now()
	if err := west.store.Sessions().Revoke(t.Context(), "maple", one, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation to arrive", func() bool { return east.ask(oscarHost+"/x", cookie).status != http.StatusNoContent })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("revoked after %s", took)
	}
}

// The grace is over: everybody is refused, and what ran is cut; when the database is back all goes on.
func TestTheGraceIsOver(t *testing.T) {
	t.Parallel()
	east, _ := nodes(t, pgtest.Database(t), func(_ int, c *Config) { c.Cluster.Grace = 0 }) // that is 5 s
	_, cookie := east.signIn()
	east.ready(cookie)
	east.way.Hold(true)
	east.works("at once", cookie, 5*time.Second)
	eventually(t, "the end of the grace", func() bool {
		a := east.ask(oscarHost+"/x", cookie)
		return a.status == http.StatusServiceUnavailable && code(a.body) == "E-STORE"
	})
	east.way.Hold(false)
	eventually(t, "that it is back", func() bool { return !east.away() && !east.standby.Away() })
	east.works("back", cookie, 5*time.Second)
}
