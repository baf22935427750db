package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeDialer comes up, or fails, after a while.
type fakeDialer struct {
	name     string
	takes    time.Duration
	err      error
	stubborn bool // finishes although nobody waits any more
	started  time.Duration
	link     *fakeLink
	epoch    time.Time
}

type fakeLink struct {
	Link
	from   string
	closed bool
}

func (l *fakeLink) Close(Reason) error { l.closed = true; return nil }

func (d *fakeDialer) Transport() string { return d.name }

func (d *fakeDialer) Dial(ctx context.Context, _ Target) (Link, error) {
	d.started = time.Since(d.epoch)
	done := ctx.Done()
	if d.stubborn {
		done = nil
	}
	select {
	case <-time.After(d.takes):
	case <-done:
		return nil, context.Cause(ctx)
	}
	if d.err != nil {
		return nil, d.err
	}
	d.link = &fakeLink{from: d.name}
	return d.link, nil
}

func TestRace(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name        string
		quic, ws    fakeDialer
		winner      string
		wsStarted   time.Duration
		took        time.Duration
		wantInError []string
	}{
		{name: "QUIC in time: WebSocket is not tried", quic: fakeDialer{takes: 900 * time.Millisecond}, winner: "quic", took: 900 * time.Millisecond},
		{name: "QUIC blocked: WebSocket after a second", quic: fakeDialer{takes: time.Hour}, ws: fakeDialer{takes: time.Second}, winner: "websocket", wsStarted: time.Second, took: 2 * time.Second},
		{name: "QUIC fails at once: no second is lost", quic: fakeDialer{err: refused}, ws: fakeDialer{takes: time.Second}, winner: "websocket", took: time.Second},
		{name: "QUIC late but first", quic: fakeDialer{takes: 1500 * time.Millisecond}, ws: fakeDialer{takes: time.Hour}, winner: "quic", wsStarted: time.Second, took: 1500 * time.Millisecond},
		{name: "the loser is up, too", quic: fakeDialer{takes: 3 * time.Second, stubborn: true}, ws: fakeDialer{takes: time.Second}, winner: "websocket", wsStarted: time.Second, took: 3 * time.Second},
		{name: "both fail", quic: fakeDialer{err: refused}, ws: fakeDialer{err: errors.New("no route")}, wantInError: []string{"quic: refused", "websocket: no route"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				quic, ws := c.quic, c.ws
				quic.name, ws.name, quic.epoch, ws.epoch = "quic", "websocket", start, start
				link, err := Race(t.Context(), Target{}, &quic, &ws, time.Second)
				for _, want := range c.wantInError {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v lacks %q", err, want)
					}
				}
				if c.winner == "" {
					return
				}
				if err != nil || link.(*fakeLink).from != c.winner || link.(*fakeLink).closed {
					t.Fatalf("got %+v, %v; want %s", link, err, c.winner)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if ws.started != c.wsStarted {
					t.Errorf("WebSocket started after %v, want %v", ws.started, c.wsStarted)
				}
				for _, d := range []*fakeDialer{&quic, &ws} {
					if d.name != c.winner && d.link != nil && !d.link.closed {
						t.Error("the loser stays open")
					}
				}
			})
		})
	}
}

func TestRaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		slow := time.Hour
		if _, err := Race(ctx, Target{}, &fakeDialer{takes: slow}, &fakeDialer{takes: slow}, time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestResolveKnowsLocalhost(t *testing.T) {
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	for host, want := range map[string][]netip.Addr{
		"localhost":             loopback,
		"oscar.maple.localhost": loopback,
		"EDGE.LocalHost.":       loopback,
		"192.0.2.7":             {netip.MustParseAddr("192.0.2.7")},
		"2001:db8::7":           {netip.MustParseAddr("2001:db8::7")},
	} {
		got, err := Resolve(t.Context(), host)
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
}

// One family's packets vanish: the other is tried after one head start, however many addresses the dead one has.
func TestOneFamilyBlackholed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		six := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::3")}
		four := netip.MustParseAddr("192.0.2.1")
		addrs := Interleave(append(six, four))
		start := time.Now()
		got, err := stagger(t.Context(), len(addrs), addressLead, func(ctx context.Context, i int) (netip.Addr, error) {
			if addrs[i].Is6() {
				<-ctx.Done()
				return addrs[i], ctx.Err()
			}
			return addrs[i], nil
		}, func(netip.Addr) {})
		if err != nil || got != four || time.Since(start) != addressLead {
			t.Errorf("%v, %v after %v", got, err, time.Since(start))
		}
	})
	if Interleave(nil) == nil || len(Interleave(nil)) != 0 {
		t.Error("no addresses")
	}
}

// An edge that says when to come back is not asked over the other transport, which leads to the same one; also when that dial
// has begun already.
func TestRaceEndsWhenTheEdgeAsksToComeBack(t *testing.T) {
	for name, takes := range map[string]time.Duration{"at once": 0, "after the lead": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				full := &ClosedError{Reason: Reason{Code: ReasonRefused, RetryAfter: time.Second}, Remote: true}
				quic := &fakeDialer{name: "quic", takes: takes, err: full, epoch: time.Now()}
				ws := &fakeDialer{name: "websocket", takes: time.Minute, epoch: time.Now()}
				link, err := Race(t.Context(), Target{}, quic, ws, time.Second)
				if link != nil || ComeBack(err) != time.Second {
					t.Errorf("%v, come back in %v", err, ComeBack(err))
				}
				if took := time.Since(quic.epoch); took != takes || ws.link != nil || takes == 0 && ws.started != 0 {
					t.Errorf("took %v; the other began at %v", took, ws.started)
				}
			})
		})
	}
}
