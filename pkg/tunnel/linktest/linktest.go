// Package linktest owns the conformance suite that every transport of links must pass, the in-memory networks it runs
// over, and the benchmarks that compare transports. It knows no transport: each brings a function that makes a pair.
package linktest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Pair is a link seen from both ends. Both ends are held.
type Pair struct {
	// Dialed is the connector's end, Accepted the edge's.
	Dialed, Accepted tunnel.Link
	// Wire is the network between them; nil where it cannot be cut.
	Wire Wire
}

// End names one end of a pair.
type End int

// The ends.
const (
	Dialer End = iota
	Listener
)

// Wire does to a pair what networks do.
type Wire interface {
	// Blackhole drops what from sends from now on, without a word.
	Blackhole(from End)
	// Kill closes end's socket the way the kernel does for a process that was killed.
	Kill(end End)
}

// Make makes a pair over a new connection; it registers what undoes it with t.Cleanup.
type Make func(t testing.TB) *Pair

// Admitted makes a pair and admits both ends.
func (m Make) Admitted(t testing.TB) *Pair {
	p := m(t)
	p.Dialed.Admit()
	p.Accepted.Admit()
	return p
}

// Ends returns the link of end, and the one it talks to.
func (p *Pair) Ends(end End) (this, other tunnel.Link) {
	if end == Dialer {
		return p.Dialed, p.Accepted
	}
	return p.Accepted, p.Dialed
}

// Run runs the whole suite in fake time (testing/synctest): m must use in-memory networks only, and make everything
// inside the call. A goroutine that is left over fails the test that left it.
func Run(t *testing.T, m Make) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Make)
	}{
		{"bytes arrive whole, both ways", testBytes},
		{"a thousand streams at once", testManyStreams},
		{"what exceeds the peer's credit waits", testCredit},
		{"reset reaches reader and writer", testReset},
		{"reset overtakes bytes nobody reads", testResetOvertakes},
		{"reset of an ended stream does nothing", testLateReset},
		{"streams that were reset cost nothing", testResetCredit},
		{"half-close, either order", testHalfClose},
		{"a reader that stops blocks its writer only", testFlowControl},
		{"many readers that stop block their writers only", testManyStopped},
		{"deadlines", testDeadlines},
		{"a killed peer is found", testKilled},
		{"a blackholed peer is found", testBlackhole},
		{"a quiet link stays", testQuiet},
		{"a dead link is no end of bytes", testDeadIsNoEOF},
		{"close says why", testCloseReason},
		{"close does not wait for a blackholed peer", testCloseBlackholed},
		{"a held link takes one stream", testHeldStreams},
		{"a held link takes 16 KiB", testHeldBytes},
		{"a held link keeps little of what nobody reads", testHeldUnread},
		{"exported keys", testExport},
		{"ended links refuse", testEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			Bubble(t, func(t *testing.T) { c.test(t, m) })
		})
	}
}

// Bubble is synctest.Test for links.
func Bubble(t *testing.T, test func(t *testing.T)) {
	emptyPools()
	synctest.Test(t, test)
	emptyPools()
}

// emptyPools empties every sync.Pool: what no one has used for two collections is gone. yamux pools timers in a package
// variable, and a timer that was made inside a synctest bubble must not be used outside it.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}

// RunReal runs what only real sockets show.
func RunReal(t *testing.T, m Make) {
	t.Run("bytes arrive whole, both ways", func(t *testing.T) { testBytes(t, m) })
	t.Run("a thousand streams at once", func(t *testing.T) { testManyStreams(t, m) })
	t.Run("close says why", func(t *testing.T) { testCloseReason(t, m) })
	t.Run("a killed peer is found", func(t *testing.T) { testKilled(t, m) })
	t.Run("exported keys", func(t *testing.T) { testExport(t, m) })
}

// patience bounds every wait of the suite; in fake time it costs nothing.
const patience = 30 * time.Second

func open(t testing.TB, l tunnel.Link) tunnel.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := l.Open(ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func accept(t testing.TB, l tunnel.Link) tunnel.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := l.Accept(ctx)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	return s
}

// joined opens a stream on from and accepts it on to; the one byte that makes it visible has been read.
func joined(t testing.TB, from, to tunnel.Link) (opened, accepted tunnel.Stream) {
	t.Helper()
	opened = open(t, from)
	if _, err := opened.Write([]byte{1}); err != nil {
		t.Fatalf("first byte: %v", err)
	}
	accepted = accept(t, to)
	if n, err := accepted.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("first byte: %v", err)
	}
	return opened, accepted
}

// ended waits for the link's end, and returns its cause and how long that took.
func ended(t testing.TB, l tunnel.Link) (*tunnel.ClosedError, time.Duration) {
	t.Helper()
	start := time.Now()
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("the link did not end")
	}
	var cause *tunnel.ClosedError
	if !errors.As(l.Cause(), &cause) {
		t.Fatalf("cause %v is no ClosedError", l.Cause())
	}
	return cause, time.Since(start)
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }
