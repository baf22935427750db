package connector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// The waits of a lane as it is configured: full jitter below 1, 2, 4, 8, 16 and then 30 s, from the start again after a link that
// lasted a minute, and what the edge asks for on top.
func TestWaitsBetweenAttempts(t *testing.T) {
	type end struct {
		err       error
		lasted    time.Duration
		from, max time.Duration
	}
	lost := errors.New("no route to host")
	asked := &controlclient.RefusedError{Code: tunnel.ReasonRefused, RetryAfter: 20 * time.Second}
	closed := &tunnel.ClosedError{Remote: true, Reason: tunnel.Reason{Code: tunnel.ReasonGoodbye, RetryAfter: 5 * time.Second}}
	for name, ends := range map[string][]end{
		"doubles up to 30 s": {
			{err: lost, max: 1}, {err: lost, max: 2}, {err: lost, max: 4}, {err: lost, max: 8}, {err: lost, max: 16}, {err: lost, max: 30}, {err: lost, max: 30},
		},
		"a stable minute":    {{err: lost, max: 1}, {err: lost, max: 2}, {err: lost, lasted: time.Minute, max: 1}, {err: lost, max: 2}},
		"less than a minute": {{err: lost, max: 1}, {err: lost, lasted: 59 * time.Second, max: 2}, {err: lost, lasted: 59 * time.Second, max: 4}},
		"refused for a time": {{err: asked, from: 20, max: 21}, {err: asked, from: 20, max: 21}, {err: lost, max: 4}},
		"closed for a time":  {{err: closed, lasted: time.Second, from: 5, max: 6}},
	} {
		for range 50 { // jitter
			synctest.Test(t, func(t *testing.T) {
				l := newLane(quietLinks(), 1, nil, defaultShrinking())
				for i, e := range ends {
					<-time.After(e.lasted)
					l.again(e.err, e.lasted)
					wait, _, _ := l.next(time.Now())
					if wait < e.from*time.Second || wait > e.max*time.Second {
						t.Errorf("%s: wait %d is %v, want %v to %v", name, i, wait, e.from*time.Second, e.max*time.Second)
					}
					<-time.After(wait)
				}
			})
		}
	}
}

// A thousand connectors of one edge do not come back in step.
func TestWaitsAreSpread(t *testing.T) {
	early, late := 0, 0
	for range 1000 {
		l := newLane(quietLinks(), 1, nil, defaultShrinking())
		l.again(context.DeadlineExceeded, 0)
		switch wait, _, _ := l.next(time.Now()); {
		case wait < 250*time.Millisecond:
			early++
		case wait > 750*time.Millisecond:
			late++
		}
	}
	if early < 150 || early > 350 || late < 150 || late > 350 {
		t.Errorf("%d of 1000 in the first quarter of a second, %d in the last", early, late)
	}
}
