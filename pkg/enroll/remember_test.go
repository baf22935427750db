package enroll_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// away is a store that may not answer.
type away struct {
	enroll.Store
	gone       bool
	connectors map[id.Connector]enroll.Connector
	next       uint64
}

var errGone = fault.New(fault.Unavailable, "gone")

func (s *away) Connector(_ context.Context, c id.Connector) (enroll.Connector, error) {
	if s.gone {
		return enroll.Connector{}, errGone
	}
	found, ok := s.connectors[c]
	if !ok {
		return enroll.Connector{}, fault.New(fault.NotFound, "none")
	}
	return found, nil
}

func (s *away) JoinRun(context.Context, id.Connector, string, uint64) (enroll.Run, error) {
	if s.gone {
		return enroll.Run{}, errGone
	}
	s.next++
	return enroll.Run{Generation: s.next, Returns: 1}, nil
}

// While the store is away a connector that was known comes back with the number of its process. One that was not, another process,
// and one that has changed since do not.
func TestRemembered(t *testing.T) {
	ctx := t.Context()
	s := &away{connectors: map[id.Connector]enroll.Connector{"con_1": {ID: "con_1", Tenant: "maple"}, "con_2": {ID: "con_2"}, "con_3": {ID: "con_3"}}}
	known := enroll.Remember(s, func() bool { return s.gone })
	for _, c := range []id.Connector{"con_1", "con_2"} {
		if _, err := known.Connector(ctx, c); err != nil {
			t.Fatal(err)
		}
		if _, err := known.JoinRun(ctx, c, "old", 0); err != nil {
			t.Fatal(err)
		}
	}
	first, err := known.JoinRun(ctx, "con_1", "process", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.gone = true
	if c, err := known.Connector(ctx, "con_1"); err != nil || c.Tenant != "maple" {
		t.Errorf("a known one: %+v, %v", c, err)
	}
	if run, err := known.JoinRun(ctx, "con_1", "process", 0); err != nil || run.Generation != first.Generation || run.Returns != 0 {
		t.Errorf("its process: %+v, %v; want generation %d", run, err, first.Generation)
	}
	for name, ask := range map[string]func() error{
		"a former process": func() error { _, err := known.JoinRun(ctx, "con_1", "old", 0); return err },
		"another process":  func() error { _, err := known.JoinRun(ctx, "con_1", "new", 0); return err },
		"no process":       func() error { _, err := known.JoinRun(ctx, "con_3", "", 0); return err },
		"one never seen":   func() error { _, err := known.Connector(ctx, "con_3"); return err },
		"one that is changed": func() error {
			known.Forget("con_2")
			_, err := known.Connector(ctx, "con_2")
			_, err2 := known.JoinRun(ctx, "con_2", "old", 0)
			return errors.Join(err, err2)
		},
	} {
		if err := ask(); !errors.Is(err, errGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.gone = false
	s.connectors["con_1"] = enroll.Connector{ID: "con_1", Revoked: time.Now()}
	if c, err := known.Connector(ctx, "con_1"); err != nil || c.Revoked.IsZero() {
		t.Errorf("the store answers again: %+v, %v", c, err)
	}
}
