package connector_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// twin is a second edge on the store of the first: its own port, registry and control, as another process has them.
func (e *testEdge) twin(t testing.TB) *testEdge {
	t.Helper()
	other := &testEdge{t: t, db: e.db, certs: e.certs, superseded: e.superseded}
	var err error
	if other.ring, err = token.NewKeyring(t.Context(), e.db.Keys(), time.Now); err != nil {
		t.Fatal(err)
	}
	other.start(true)
	t.Cleanup(func() { other.stop() })
	return other
}

func listOf(all ...*testEdge) (out []*tunnelv1.EdgeAddress) {
	for _, e := range all {
		out = append(out, &tunnelv1.EdgeAddress{Url: e.url(), Weight: 1})
	}
	return out
}

// twoEdges lists two edges at both of them.
func twoEdges(t testing.TB, alarm func(registry.Alarm)) (a, b *testEdge) {
	t.Helper()
	a = newEdge(t)
	if alarm != nil {
		a.stop()
		a.superseded.Alarm = alarm
		a.start(true)
	}
	b = a.twin(t)
	for _, e := range []*testEdge{a, b} {
		if err := e.server.SetEdges(listOf(a, b)); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

// answers runs one exchange from an edge.
func (e *testEdge) answers(t testing.TB) {
	t.Helper()
	m := e.member(t)
	if got, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart")); err != nil || got != "chart of /oscar/chart" {
		t.Errorf("%q %v", got, err)
	}
}

// Enrolled at one edge, told of another: links to both, in one generation, and no talk of a copied key.
func TestLinksToTwoEdges(t *testing.T) {
	alarms := make(chan registry.Alarm, 8)
	a, b := twoEdges(t, func(alarm registry.Alarm) { alarms <- alarm })
	c := newClinic(t, a, connector.TransportAuto)
	a.members(t, 2)
	b.members(t, 2)
	ma, mb := a.member(t), b.member(t)
	if ma.Instance != mb.Instance || ma.Generation != mb.Generation {
		t.Errorf("instances %s and %s, generations %d and %d", ma.Instance, mb.Instance, ma.Generation, mb.Generation)
	}
	a.answers(t)
	b.answers(t)
	// What one edge has judged, the other one may carry: the run is the same.
	if _, err := fetch(t, mb, head(mb, a.mint(t, claims(ma)), "/oscar/chart")); err != nil {
		t.Errorf("an assertion of the other edge: %v", err)
	}
	s := c.ready(t)
	to := map[string]int{}
	for _, l := range s.Links {
		to[l.Edge]++
	}
	if to[a.url()] != 2 || to[b.url()] != 2 {
		t.Errorf("links to %v", to)
	}
	select {
	case alarm := <-alarms:
		t.Errorf("one process at two edges is taken for a copied key: %+v", alarm)
	default:
	}
}

func TestRevocationAtEitherEdgeEndsWhatBothSent(t *testing.T) {
	a, b := twoEdges(t, nil)
	newClinic(t, a, connector.TransportAuto)
	a.members(t, 2)
	b.members(t, 2)
	for session, by := range map[id.Session]*testEdge{"ses_1": a, "ses_2": b} {
		first, second := slow(t, a, a.member(t), session), slow(t, b, b.member(t), session)
		by.server.RevokeSession("maple", session)
		for _, resp := range []*exchange.Response{first, second} {
			if _, err := io.ReadAll(resp.Body); exchange.Code(err) != wire.CodeRevoked {
				t.Errorf("%s: %v", session, err)
			}
		}
	}
}

// One edge dies: the other goes on serving. The list is remembered: a new process with the enrolment's edge still dead comes up
// on the other one.
func TestOneOfTwoEdgesIsEnough(t *testing.T) {
	a, b := twoEdges(t, nil)
	c := newClinic(t, a, connector.TransportAuto)
	a.members(t, 2)
	b.members(t, 2)
	old := b.member(t)
	a.stop()
	b.answers(t)
	if err := old.Link.Cause(); err != nil {
		t.Errorf("the other edge's link ended with it: %v", err)
	}
	c.ready(t)
	info, err := os.Stat(filepath.Join(c.config.StateDir, "edges.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("remembered list: %v, mode %v", err, info.Mode())
	}
	c.stop()
	if err := c.end(t); err != nil {
		t.Fatal(err)
	}
	b.members(t, 0)
	runAgain(t, c)
	b.members(t, 2)
	b.answers(t)
}

// runAgain starts another process with the state and rules of an earlier one.
func runAgain(t testing.TB, c *clinic) *connector.Connector {
	t.Helper()
	again, err := connector.New(c.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- again.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return again
}

// A list that leaves an edge out moves the connector: links to the new edges are up before those to the old one go.
func TestConnectorFollowsTheList(t *testing.T) {
	a := newEdge(t)
	b, c := a.twin(t), a.twin(t)
	newClinic(t, a, connector.TransportWebSocket)
	a.members(t, 2)
	resp := slow(t, a, a.member(t), "ses_1")
	if err := a.server.SetEdges(listOf(b, c)); err != nil {
		t.Fatal(err)
	}
	b.members(t, 2)
	c.members(t, 2)
	b.answers(t)
	c.answers(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		short, done := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err := a.registry.Pick(short, "maple", "main", "")
		done()
		if err != nil {
			break // told to send no more
		}
	}
	if err := ctx.Err(); err != nil {
		t.Fatal("the old edge still sends")
	}
	a.server.RevokeSession("maple", "ses_1") // still heard there
	if _, err := io.ReadAll(resp.Body); exchange.Code(err) != wire.CodeRevoked {
		t.Errorf("what ran on the old edge: %v", err)
	}
}

// A list names an edge that does not answer yet: the one that it lacks is not left for it, only once it does.
func TestAnEdgeIsNotLeftForOneThatIsNotThere(t *testing.T) {
	a := newEdge(t)
	b, c := a.twin(t), a.twin(t)
	core, logs := observer.New(zap.InfoLevel)
	newClinic(t, a, connector.TransportWebSocket, func(cfg *connector.Config) { cfg.Logger = zap.New(core) })
	a.members(t, 2)
	list := listOf(b, c)
	c.stop()
	if err := a.server.SetEdges(list); err != nil {
		t.Fatal(err)
	}
	b.members(t, 2)
	leaving := func() []observer.LoggedEntry { return logs.FilterMessageSnippet("leaving an edge").All() }
	c.eventually(t, "links that failed", func() bool { return logs.FilterMessageSnippet("no link").Len() > 5 || len(leaving()) > 0 })
	a.answers(t)
	c.start(true)
	c.members(t, 2)
	a.eventually(t, "the old edge left", func() bool { return len(leaving()) > 0 })
	up := logs.Filter(func(e observer.LoggedEntry) bool { return e.Message == "link up" && e.ContextMap()["edge"] == c.url() })
	if left := leaving()[0]; up.Len() == 0 || left.Time.Before(up.All()[0].Time) {
		t.Errorf("left at %s, %d links to the new edge before", left.Time, up.Len())
	}
}

// A revoked enrolment ends the connector whichever edge says so.
func TestRevokedAtOneOfTwoEdges(t *testing.T) {
	a, b := twoEdges(t, nil)
	c := newClinic(t, a, connector.TransportAuto)
	a.members(t, 2)
	b.members(t, 2)
	if err := a.db.Enroll().RevokeConnector(t.Context(), "maple", c.identity.Connector, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := b.server.CheckConnector(t.Context(), c.identity.Connector); err != nil {
		t.Fatal(err)
	}
	if err := c.end(t); !errors.Is(err, connector.ErrRevoked) {
		t.Errorf("ended with %v", err)
	}
	a.members(t, 0)
}
