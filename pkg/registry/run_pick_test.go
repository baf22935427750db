package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Another edge asks for one run of one connector: nothing else will do in its place.
func TestPickRunTakesNoOther(t *testing.T) {
	r := New(Config{})
	if m := r.PickHere("maple", "main", ""); m != nil {
		t.Errorf("took %+v where nothing is", m)
	}
	older, newer := join(t, r, "con_1", 1, "a"), join(t, r, "con_1", 2, "b")
	other := join(t, r, "con_2", 1, "c")
	for _, c := range []struct {
		connector  id.Connector
		generation uint64
		want       tunnel.Link
	}{{"con_1", 1, older.fakeLink}, {"con_1", 2, newer.fakeLink}, {"con_2", 1, other.fakeLink}, {"con_1", 3, nil}, {"con_3", 1, nil}} {
		m, ok := r.PickRun(t.Context(), "maple", "main", c.connector, c.generation)
		if ok != (c.want != nil) || ok && m.Link != c.want {
			t.Errorf("%s generation %d: %v", c.connector, c.generation, ok)
		}
	}
	if _, ok := r.PickRun(t.Context(), "oak", "main", "con_1", 2); ok {
		t.Error("another clinic's link")
	}
	_ = newer.Close(tunnel.Reason{Code: tunnel.ReasonLost})
	if _, ok := r.PickRun(t.Context(), "maple", "main", "con_1", 2); ok {
		t.Error("a link that has ended")
	}
	if m := r.PickHere("maple", "main", ""); m == nil || m.Generation != 1 {
		t.Errorf("took %+v", m)
	}
}

// A bulk link is up before the fast one as often as not: what another edge sends waits for the fast one, as everything does.
func TestPickRunWaitsForTheFastLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		defer joinBulk(t, r, "con_1", 1, "a").leave()
		came := make(chan joined, 1)
		time.AfterFunc(300*time.Millisecond, func() { came <- join(t, r, "con_1", 1, "a") })
		began := time.Now()
		m, ok := r.PickRun(t.Context(), "maple", "main", "con_1", 1)
		if fast := <-came; !ok || m.Link != fast.fakeLink || time.Since(began) != 300*time.Millisecond {
			t.Errorf("%+v after %s", m, time.Since(began))
		}
		began = time.Now()
		if _, ok := r.PickRun(t.Context(), "maple", "main", "con_1", 2); ok || time.Since(began) != 0 {
			t.Errorf("waited %s for a run that is not there", time.Since(began))
		}
	})
}
