package connector

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Each step is a moment: what runs, how many links are up, and how many there are to be.
func TestSizeOfALane(t *testing.T) {
	type step struct {
		after       time.Duration // since the step before
		running, up int
		want        int
	}
	const tick = growEvery
	fast := size{most: maxFast, load: fastLoad, quiet: fastQuiet}
	bulk := size{most: maxBulk, quiet: bulkQuiet}
	for name, c := range map[string]struct {
		size  size
		steps []step
	}{
		"an idle lane has one link": {fast, []step{{0, 0, 0, 1}, {time.Hour, 0, 1, 1}, {time.Hour, 4, 1, 1}}},
		"it grows one by one, to four": {fast, []step{
			{0, 40, 1, 2}, {tick, 40, 2, 3}, {tick, 40, 3, 4}, {tick, 40, 4, 4}, {time.Hour, 1000, 4, 4},
		}},
		"no faster than every 250 ms":                    {fast, []step{{0, 40, 1, 2}, {tick / 2, 40, 2, 2}, {tick / 2, 40, 2, 3}}},
		"a link that does not come up holds the next up": {fast, []step{{0, 40, 1, 2}, {time.Minute, 40, 1, 2}, {tick, 40, 2, 3}}},
		"only as far as the load goes":                   {fast, []step{{0, 5, 1, 2}, {tick, 8, 2, 2}, {tick, 9, 2, 3}}},
		"it shrinks after a minute of little": {fast, []step{
			{0, 40, 1, 2},
			{tick, 40, 2, 3},
			{tick, 40, 3, 4},
			{tick, 7, 4, 4},
			{fastQuiet - time.Second, 6, 4, 4},
			{time.Second, 6, 4, 2},
		}},
		"to one after a minute of nothing": {fast, []step{
			{0, 40, 1, 2}, {tick, 40, 2, 3}, {tick, 40, 3, 4}, {tick, 0, 4, 4}, {fastQuiet, 0, 4, 1}, {time.Hour, 0, 1, 1},
		}},
		"a moment of load starts the minute anew": {fast, []step{
			{0, 8, 1, 2},
			{tick, 0, 2, 2},
			{fastQuiet - time.Second, 4, 2, 2},
			{2 * time.Second, 0, 2, 2},
			{fastQuiet - time.Second, 0, 2, 2},
			{time.Second, 0, 2, 1},
		}},
		"half the load is no reason to shrink": {fast, []step{{0, 8, 1, 2}, {tick, 4, 2, 2}, {time.Hour, 4, 2, 2}}},
		"one body wants every bulk link": {bulk, []step{
			{0, 0, 1, 1},
			{tick, 1, 1, 2},
			{tick, 1, 2, 3},
			{tick, 1, 3, 4},
			{tick, 1, 4, 5},
			{tick, 1, 5, 6},
			{time.Hour, 1, 6, 6},
			{tick, 0, 6, 6},
			{bulkQuiet - time.Second, 0, 6, 6},
			{time.Second, 0, 6, 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, now := c.size, time.Unix(1_800_000_000, 0)
			for i, step := range c.steps {
				now = now.Add(step.after)
				if got := s.step(now, step.running, step.up); got != step.want {
					t.Fatalf("step %d (%+v): %d links", i, step, got)
				}
			}
		})
	}
}

// congested is a link whose socket sends with the named congestion control.
type congested struct {
	tunnel.Link
	name string
}

func (c congested) Info() tunnel.Info {
	return tunnel.Info{Transport: TransportWebSocket, Congestion: c.name}
}

// A side that sends with BBR needs one bulk link, whichever side it is.
func TestBodiesSentWithBBRWantNoMoreLinks(t *testing.T) {
	for _, c := range []struct {
		ours   string
		theirs bool
		want   int
	}{{"bbr", true, 0}, {"bbr", false, 2}, {"cubic", true, 3}, {"cubic", false, 5}, {"", false, 5}} {
		h := &held{lane: tunnelv1.Lane_LANE_BULK, Link: &controlclient.Link{Link: congested{name: c.ours}, BBR: c.theirs}}
		h.work.in.Store(2)
		h.work.out.Store(3)
		if got := h.demand(local); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// near is a link with a least round trip.
type near struct {
	tunnel.Link
	least time.Duration
}

func (n near) Path() tunnel.Path { return tunnel.Path{Latest: time.Second, Least: n.least} }
func (near) Probe()              {}

// In the same building one link is enough, whatever runs on it; where the round trip is not known yet, load counts.
func TestExchangesOnAPathThatIsNoLineWantNoMoreLinks(t *testing.T) {
	for least, want := range map[time.Duration]int{0: 7, 80 * time.Microsecond: 0, local: 7, 40 * time.Millisecond: 7} {
		h := &held{lane: tunnelv1.Lane_LANE_FAST, Link: &controlclient.Link{Link: near{least: least}}}
		h.work.in.Store(7)
		if got := h.demand(local); got != want {
			t.Errorf("%v: %d", least, got)
		}
	}
}

// A lane is woken by the exchange that is one too many for a link, not by each one that comes on top of it.
func TestLoadWakesOnce(t *testing.T) {
	woken := 0
	w := work{load: fastLoad, woken: func() { woken++ }}
	for range 10 * fastLoad {
		w.begin(&w.in)
	}
	if woken != 1 {
		t.Errorf("woken %d times", woken)
	}
	w.in.Store(fastLoad)
	if w.begin(&w.in); woken != 2 {
		t.Errorf("woken %d times", woken)
	}
}
