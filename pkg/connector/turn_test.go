package connector

import (
	"context"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// A bulk lane that lost its links comes after the fast one, at once when there is an exchange, and never waits at the start.
func TestBulkLaneWaitsForItsTurn(t *testing.T) {
	shrink := defaultShrinking()
	ways := &links{dials: newDials("test"), gate: &gate{running: newRunning()}}
	fast, bulk := newLane(ways, tunnelv1.Lane_LANE_FAST, nil, shrink), newLane(ways, tunnelv1.Lane_LANE_BULK, nil, shrink)
	ways.lanes = []*lane{fast, bulk}
	now := time.Now()
	wait := func(l *lane) time.Duration {
		in, _, _ := l.next(now)
		return in
	}
	if wait(bulk) != 0 {
		t.Error("it waits at the start")
	}
	lose := func() {
		fast.empty(&held{})
		bulk.empty(&held{})
	}
	lose()
	if wait(fast) != 0 || wait(bulk) != idle {
		t.Errorf("both lanes lost: fast in %v, bulk in %v", wait(fast), wait(bulk))
	}
	ways.fastUp.Store(now.UnixNano())
	if in := wait(bulk); in <= 0 || in > shrink.spread {
		t.Errorf("the fast lane is up: bulk in %v", in)
	}
	now = now.Add(shrink.spread + 1)
	if wait(bulk) != 0 {
		t.Errorf("its time has come: bulk in %v", wait(bulk))
	}
	now = now.Add(-shrink.spread - 1)
	ways.want()
	if wait(bulk) != 0 {
		t.Errorf("an exchange came: bulk in %v", wait(bulk))
	}
	lose()
	if wait(bulk) != idle {
		t.Errorf("lost again: bulk in %v", wait(bulk))
	}
}

type refusing struct {
	name  string
	after time.Duration
	dials *[]string
}

func (d *refusing) Transport() string { return d.name }

func (d *refusing) Dial(context.Context, tunnel.Target) (tunnel.Link, error) {
	*d.dials = append(*d.dials, d.name)
	return nil, &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonRefused, RetryAfter: d.after}, Remote: true}
}

// Refusals over QUIC are forged more easily than made over TLS.
func TestRefusalsOverQUICAreNotBelievedForEver(t *testing.T) {
	var dials []string
	dial := either(tunnel.Target{}, &refusing{"quic", time.Second, &dials}, &refusing{"websocket", 0, &dials})
	for range believed {
		_, _ = dial(t.Context())
	}
	if len(dials) != believed {
		t.Fatalf("%q", dials)
	}
	_, _ = dial(t.Context())
	if dials[believed] != "websocket" {
		t.Errorf("%q", dials)
	}
}
