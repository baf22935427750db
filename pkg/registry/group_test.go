package registry

import (
	"context"
	"errors"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// moveable adds a link whose ends both named the feature.
func moveable(t *testing.T, r *Registry, c id.Connector, generation uint64, lane tunnelv1.Lane) (leave func()) {
	t.Helper()
	link, _ := exchangetest.Memory()
	t.Cleanup(func() { _ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown}) })
	leave, err := r.Join(Member{Tenant: "maple", Site: "main", Connector: c, Generation: generation, Lane: lane, Link: link, Moved: true})
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func streams(t *testing.T, m *exchange.Moves) int {
	t.Helper()
	move, err := m.Lanes.Move(context.Background())
	if errors.Is(err, exchange.ErrNoBulk) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(move.Streams)
}

// Bodies move among the links of one run of one connector: neither another connector's links nor another run's are
// reached, whatever numbers they have (attack case K1).
func TestBodiesMoveWithinOneRunOnly(t *testing.T) {
	r := New(Config{})
	const fast, bulk = tunnelv1.Lane_LANE_FAST, tunnelv1.Lane_LANE_BULK
	moveable(t, r, "con_1", 7, fast)
	moveable(t, r, "con_1", 7, bulk)
	leave := moveable(t, r, "con_1", 7, bulk)
	moveable(t, r, "con_2", 7, fast)
	moveable(t, r, "con_1", 8, fast)
	join(t, r, "con_3", 7, "c")

	mine, other, newer := r.Moves("con_1", 7), r.Moves("con_2", 7), r.Moves("con_1", 8)
	if mine.Continuations == other.Continuations || mine.Continuations == newer.Continuations {
		t.Error("two runs share their continuations")
	}
	if a, b, c := streams(t, mine), streams(t, other), streams(t, newer); a != 2 || b != 0 || c != 0 {
		t.Errorf("moved to %d, %d and %d links, want 2, 0, 0", a, b, c)
	}
	if r.Moves("con_3", 7) != nil {
		t.Error("a connector that did not name the feature is moved to")
	}
	leave()
	if n := streams(t, mine); n != 1 {
		t.Errorf("moved to %d links after one has left", n)
	}
}
