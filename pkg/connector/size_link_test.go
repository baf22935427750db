package connector_test

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// lanes waits until the edge has so many links of each lane.
func (e *testEdge) lanes(t testing.TB, fast, bulk int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := map[tunnelv1.Lane]int{}
		for _, m := range e.registry.Members("maple") {
			got[m.Lane]++
		}
		if got[tunnelv1.Lane_LANE_FAST] == fast && got[tunnelv1.Lane_LANE_BULK] == bulk {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v, want %d fast and %d bulk", got, fast, bulk)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// heard waits until every link has been heard beside the newest one.
func (e *testEdge) heard(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		all := e.registry.Members("maple")
		newest := slices.MaxFunc(all, func(a, b registry.Status) int { return a.Joined.Compare(b.Joined) }).Joined
		if !slices.ContainsFunc(all, func(m registry.Status) bool { return m.Heard.Before(newest) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a link is not heard")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Under load the fast lane has four links, which share it; without, it has one again. Nothing that runs is lost by either.
func TestFastLaneGrowsWithLoadAndShrinks(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			bulk := 1
			if transport == connector.TransportQUIC {
				bulk = 0
			}
			first := e.member(t)
			e.lanes(t, 1, bulk)
			var running []*exchange.Response
			for range 20 {
				first.Begin()
				running = append(running, slow(t, e, first, "ses_1"))
			}
			e.lanes(t, 4, bulk)
			e.heard(t)
			used := map[*registry.Member]int{}
			for range 6 {
				m := e.member(t)
				m.Begin()
				used[m]++
				running = append(running, slow(t, e, m, "ses_1"))
			}
			if len(used) != 3 || used[first] != 0 {
				t.Errorf("%d links share what comes, %d of it on the loaded one", len(used), used[first])
			}
			close(c.origin.hold)
			for _, resp := range running {
				if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "chart of /slow" {
					t.Fatalf("%q %v", text, err)
				}
				_ = resp.Body.Close()
			}
			for range running[:20] {
				first.End()
			}
			for len(e.registry.Members("maple")) > 1+bulk { // exchanges while it shrinks
				m := e.member(t)
				if got, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart")); err != nil {
					t.Fatalf("an exchange was lost: %q %v", got, err)
				}
			}
			e.lanes(t, 1, bulk)
		})
	}
}

// A link that still carries something is not closed, however long that takes.
func TestShrinkingWaitsForWhatRuns(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto)
	first := e.member(t)
	long := []*exchange.Response{slow(t, e, first, "ses_1")}
	var short []*exchange.Response
	for range 4 {
		short = append(short, slow(t, e, first, "ses_1"))
	}
	e.lanes(t, 2, 1)
	one := e.member(t)
	for one.Link == first.Link {
		one = e.member(t)
	}
	long = append(long, slow(t, e, one, "ses_2"))
	for _, resp := range short {
		_ = resp.Body.Close() // the browsers leave
	}
	for c.Retiring() == 0 {
		<-time.After(10 * time.Millisecond)
	}
	for began := time.Now(); time.Since(began) < 2*connector.TestLinger; {
		m := e.member(t)
		if got, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart")); err != nil {
			t.Fatalf("%q %v", got, err)
		}
	}
	close(c.origin.hold)
	for _, resp := range long {
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "chart of /slow" {
			t.Errorf("%q %v", text, err)
		}
		_ = resp.Body.Close()
	}
	e.lanes(t, 1, 1)
}

// A kernel without BBR spreads bodies over several TCP connections while the clinic is at work.
func TestBulkLaneGrowsWhileBodiesMoveWithoutBBR(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto, func(cfg *connector.Config) {
		cfg.WebSocket = &wslink.Dialer{Config: wslink.Config{Congestion: "reno"}}
	})
	e.lanes(t, 1, 1)
	m := e.member(t)
	resp, err := exchange.Do(t.Context(), m, &exchange.Request{Head: head(m, e.mint(t, claims(m)), "/image"), Moves: m.Moves()})
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		text, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.HasSuffix(text, []byte("\x00chart of /image")) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}()
	e.lanes(t, 1, 6)
	close(c.origin.hold)
	<-arrived
	_ = resp.Body.Close()
	e.lanes(t, 1, 1)
}
