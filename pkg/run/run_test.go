package run_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/run"
)

func TestPartsStopInReverseOrderAfterAllHaveDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		var g run.Group
		for _, name := range []string{"store", "listener"} {
			g.Add(run.Part{
				Name:  name,
				Run:   func(ctx context.Context) error { <-ctx.Done(); order = append(order, "stop "+name); return nil },
				Drain: func(context.Context) { <-time.After(time.Second) },
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(order, ", "); got != "stop listener, stop store" {
			t.Errorf("order: %s", got)
		}
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("took %v: drains must run side by side and be waited for", took)
		}
	})
}

func TestAPartThatFailsEndsTheGroupAndIsNamed(t *testing.T) {
	boom := errors.New("boom")
	var g run.Group
	stopped := false
	g.Add(run.Part{Name: "steady", Run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }})
	g.Add(run.Part{Name: "listener", Run: func(context.Context) error { return boom }})
	err := g.Run(t.Context())
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "listener: ") || !stopped {
		t.Errorf("err = %v, steady stopped = %v", err, stopped)
	}
}

func TestAPartThatHangsIsNamedAndDoesNotHoldTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var g run.Group
		g.Add(run.Part{Name: "stuck", Run: func(context.Context) error { <-release; return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Run(ctx); err == nil || !strings.Contains(err.Error(), "stuck: did not stop in time") {
			t.Errorf("err = %v", err)
		}
		close(release)
	})
}
