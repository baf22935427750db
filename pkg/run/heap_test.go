package run

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGrowthReachesTheLeastAndDoublesAboveIt(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ live, least, want uint64 }{
		{0, 64 * mib, 64 * mib},
		{2 * mib, 64 * mib, 64 * mib},
		{5 * mib, 64 * mib, 64 * mib},
		{31 * mib, 64 * mib, 64 * mib},
		{32 * mib, 64 * mib, 64 * mib},
		{33 * mib, 64 * mib, 66 * mib},
		{900 * mib, 64 * mib, 1800 * mib},
		{5 * mib, 0, 10 * mib},
	} {
		live := max(c.live, smallHeap)
		got := live + live*uint64(growth(c.live, c.least, 100, 0))/100
		if got > c.want || got < c.want-c.want/50 {
			t.Errorf("a live heap of %d MiB may reach %d KiB, want %d", c.live/mib, got>>10, c.want>>10)
		}
	}
}

// The percentage follows what is alive: a heap that has grown is not allowed the multiple that a small one was.
func TestHeapFollowsWhatIsAlive(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	const least = 256 << 20
	stop := Heap(least)
	defer stop()
	if got := collected(t, least); got <= 200 {
		t.Errorf("a small heap may grow by %d%%", got)
	}
	held := make([]byte, least)
	if got := collected(t, least); got != 100 {
		t.Errorf("a large heap may grow by %d%%", got)
	}
	runtime.KeepAlive(held)
}

// collected returns the percentage in effect once the cleanup of a collection has adjusted it to the heap, or after some.
func collected(t *testing.T, least uint64) int {
	t.Helper()
	percent := 0
	for range 20 {
		done := make(chan struct{})
		runtime.AddCleanup(new([32]byte), func(int) { close(done) }, 0)
		runtime.GC()
		<-done
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		percent = debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		if want := growth(stats.HeapAlloc, least, 100, 0); percent-want < 2*worthwhile && want-percent < 2*worthwhile {
			break
		}
	}
	return percent
}

// A large heap is given less while its process does little, and as much as ever when it works.
func TestIdleHeapHoldsLittleGarbage(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, last int
		since      time.Duration
		want       int
	}{
		{100, 100, 3 * time.Second, 25},
		{100, 25, 700 * time.Millisecond, 25}, // as fast as before, so that it stays
		{100, 25, 300 * time.Millisecond, 25},
		{100, 25, 200 * time.Millisecond, 100},
		{100, 100, 1500 * time.Millisecond, 100},
		{40, 100, 3 * time.Second, 60}, // least is not reached
		{5, 1180, 3 * time.Second, 1180},
	} {
		if got := growth(uint64(c.live)*mib, 64*mib, c.last, c.since); got != c.want {
			t.Errorf("%d MiB, by %d%% in %v: may grow by %d%%, want %d", c.live, c.last, c.since, got, c.want)
		}
	}
}
