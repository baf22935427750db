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
		got := live + live*uint64(collection{live: live, percent: 100, took: quiet}.growth(c.least))/100
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
	if got := collected(t, least); got > 100 {
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
		if want := (collection{live: stats.HeapAlloc, percent: 100, took: quiet}).growth(least); percent-want < 2*worthwhile && want-percent < 2*worthwhile {
			break
		}
	}
	return percent
}

// A heap that is filled slowly beside much garbage is seen to be: each collection finds it hardly larger than the last one did.
func TestPastIsSomeSecondsOld(t *testing.T) {
	var p past
	begin := time.Now()
	for after := time.Duration(0); after < 30*time.Second; after += 200 * time.Millisecond {
		live := uint64(1000 + after.Milliseconds())
		ago := live - p.before(begin.Add(after), live)
		if least := uint64(min(after, fillSpan).Milliseconds()); ago < least || ago > uint64(2*fillSpan.Milliseconds()) {
			t.Fatalf("after %v it is compared with that of %d ms ago", after, ago)
		}
	}
}

// A large heap is given less while its process does little or is being filled, and as much as ever when it works.
func TestIdleHeapHoldsLittleGarbage(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, before uint64
		percent      int
		took         time.Duration
		want         int
	}{
		{100, 100, 100, 3 * time.Second, 25},
		{100, 100, 25, 700 * time.Millisecond, 25}, // as fast as before, so that it stays
		{100, 100, 25, 300 * time.Millisecond, 25},
		{100, 100, 25, 200 * time.Millisecond, 100},
		{100, 100, 100, 1500 * time.Millisecond, 100},
		{100, 100, 25, 4 * time.Second, 12},
		{1000, 1000, 25, 4 * time.Second, 25}, // more often would cost too much
		{100, 100, 12, 1700 * time.Millisecond, 12},
		{100, 100, 12, time.Second, 25},            // the same
		{100, 100, 12, 200 * time.Millisecond, 25}, // it is not still any more
		{100, 100, 12, 100 * time.Millisecond, 100},
		{100, 60, 100, 800 * time.Millisecond, 30}, // a thousand connectors arrive
		{100, 60, 12, 100 * time.Millisecond, 30},
		{100, 90, 100, 100 * time.Millisecond, 100}, // requests come and go
		{100, 140, 100, 100 * time.Millisecond, 100},
		{100, 0, 100, 100 * time.Millisecond, 100},
		{100, 100, 30, 250 * time.Millisecond, 100}, // all are there
		{40, 40, 100, 3 * time.Second, 60},          // least is not reached
		{5, 5, 1180, 3 * time.Second, 1180},
		{5, 5, 1180, 1500 * time.Millisecond, 2460}, // a process that serves a lot has twice the least
		{5, 5, 2460, 3500 * time.Millisecond, 2460}, // as many a second
		{5, 5, 2460, 6 * time.Second, 1180},
		{5, 2, 1180, 1500 * time.Millisecond, 2460}, // that has just begun, too
		{60, 60, 100, time.Second, 113},
		{60, 50, 100, time.Second, 30}, // but not while it is filled
	} {
		now := collection{live: c.live * mib, before: c.before * mib, percent: c.percent, took: c.took}
		if got := now.growth(64 * mib); got != c.want {
			t.Errorf("%d MiB after %d, by %d%% in %v: may grow by %d%%, want %d", c.live, c.before, c.percent, c.took, got, c.want)
		}
	}
}

// What is free goes back once a process has been at rest for some collections, and not again soon.
func TestRestReturnsWhatIsFree(t *testing.T) {
	var r rest
	begin := time.Now()
	for _, c := range []struct {
		after   time.Duration
		percent int
		want    bool
	}{
		{0, stillPercent, false},
		{4 * time.Second, stillPercent, false},
		{8 * time.Second, quietPercent, false}, // it has worked
		{12 * time.Second, stillPercent, false},
		{16 * time.Second, stillPercent, false},
		{20 * time.Second, stillPercent, true},
		{24 * time.Second, stillPercent, false},
		{28 * time.Second, 100, false},
		{returnEvery, stillPercent, false},
		{returnEvery + 4*time.Second, stillPercent, false},
		{returnEvery + 8*time.Second, stillPercent, false},
		{returnEvery + 20*time.Second, stillPercent, true},
	} {
		if got := r.over(begin.Add(c.after), c.percent); got != c.want {
			t.Errorf("after %v, by %d%%: returned %t", c.after, c.percent, got)
		}
	}
}
