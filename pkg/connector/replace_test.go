package connector_test

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// load is exchanges that run at an edge all the time.
type load struct {
	n      atomic.Int64
	mu     sync.Mutex
	failed []string
	done   chan struct{}
	wg     sync.WaitGroup
}

func newLoad(t testing.TB, e *testEdge) *load {
	t.Helper()
	l := &load{done: make(chan struct{})}
	for range 3 { // few enough for one link
		l.wg.Go(func() {
			for {
				select {
				case <-l.done:
					return
				default:
				}
				m, err := e.registry.Pick(t.Context(), "maple", "main", "")
				var got string
				if err == nil {
					got, err = fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart"))
				}
				if err != nil || got != "chart of /oscar/chart" {
					l.mu.Lock()
					l.failed = append(l.failed, fmt.Sprintf("%q %v", got, err))
					l.mu.Unlock()
				}
				l.n.Add(1)
			}
		})
	}
	return l
}

// more waits for n more exchanges.
func (l *load) more(t testing.TB, n int64) {
	t.Helper()
	until := l.n.Load() + n
	for deadline := time.Now().Add(time.Minute); l.n.Load() < until; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d exchanges in a minute, want %d", l.n.Load()-until+n, n)
		}
	}
}

// end ends the load, and fails the test if any of it failed.
func (l *load) end(t testing.TB) {
	t.Helper()
	close(l.done)
	l.wg.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d exchanges failed: %.500v", len(l.failed), l.n.Load(), l.failed)
	}
}

// fast lists the transports of the links that take exchanges.
func (e *testEdge) fast() (out []string) {
	for _, m := range e.registry.Members("maple") {
		if m.Lane == tunnelv1.Lane_LANE_FAST {
			out = append(out, m.Info.Transport)
		}
	}
	return out
}

func (e *testEdge) eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: fast links over %v", what, e.fast())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Exchanges had to go over WebSocket because UDP was closed. It opens: the lane moves to QUIC, no exchange fails, and what runs on
// the old link ends in its own time; so too where nothing says that it opened, and the lane only grows.
func TestFastLaneReturnsToQUIC(t *testing.T) {
	for name, told := range map[string]bool{"the network changed": true, "the lane grows": false} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t)
			e.stop()
			e.start(false)
			events := make(chan struct{})
			c := newClinic(t, e, connector.TransportAuto, func(cfg *connector.Config) { cfg.Network = events })
			e.members(t, 2)
			if got := e.fast(); got[0] != connector.TransportWebSocket {
				t.Fatalf("over %v without UDP", got)
			}
			long := slow(t, e, e.member(t), "ses_1")
			if !told {
				e.openUDP()
			}
			load := newLoad(t, e)
			load.more(t, 100)
			if told {
				e.openUDP()
				events <- struct{}{}
			}
			e.eventually(t, "no QUIC", func() bool { return slices.Contains(e.fast(), connector.TransportQUIC) })
			load.more(t, 300) // with both
			e.eventually(t, "the old link takes exchanges", func() bool {
				for range 20 {
					if m, err := e.registry.Pick(t.Context(), "maple", "main", ""); err != nil || m.Link.Info().Transport != connector.TransportQUIC {
						return false
					}
				}
				return true
			})
			load.end(t)
			if !slices.Contains(e.fast(), connector.TransportWebSocket) {
				t.Error("the old link was closed under what runs on it")
			}
			close(c.origin.hold)
			if text, err := io.ReadAll(long.Body); err != nil || string(text) != "chart of /slow" {
				t.Errorf("what ran on the old link: %q %v", text, err)
			}
			e.eventually(t, "the old link stays", func() bool { return !slices.Contains(e.fast(), connector.TransportWebSocket) })
		})
	}
}

// The address that TCP links came from is gone, or the machine woke up from a long sleep: there are new links at once, and what
// the old ones still carry ends in its own time.
func TestLinksOfAFormerNetworkAreReplaced(t *testing.T) {
	for name, row := range map[string]struct {
		transport string
		happens   func(*connector.Connector)
	}{
		"addresses gone": {connector.TransportWebSocket, (*connector.Connector).AddressesGone},
		"slept":          {connector.TransportAuto, (*connector.Connector).Woke},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, row.transport)
			e.members(t, 2)
			old := e.member(t)
			long := slow(t, e, old, "ses_1")
			load := newLoad(t, e)
			begun := time.Now()
			row.happens(c.Connector)
			e.members(t, 4)
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("new links after %v", took)
			}
			load.more(t, 100)
			load.end(t)
			if m := e.member(t); m.Link == old.Link || m.Generation != old.Generation {
				t.Errorf("generation %d after %d, the same link: %v", m.Generation, old.Generation, m.Link == old.Link)
			}
			close(c.origin.hold)
			if text, err := io.ReadAll(long.Body); err != nil || string(text) != "chart of /slow" {
				t.Errorf("what ran on the old link: %q %v", text, err)
			}
		})
	}
}

// QUIC needs no new link when an address goes: its socket is bound to none.
func TestQUICStaysOverAChangeOfAddress(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportQUIC)
	e.members(t, 1)
	before := e.member(t)
	c.AddressesGone()
	if m := e.member(t); m.Link != before.Link || len(e.fast()) != 1 {
		t.Error("the link was replaced")
	}
}
