package run_test

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/run"
)

func TestGarbage(t *testing.T) {
	for _, row := range []struct {
		mib     uint64
		percent int
	}{
		{0, 400}, {2, 400}, {12, 200}, {24, 100}, {48, 50}, {96, 25}, {100, 25}, {4096, 25},
	} {
		if got := run.Garbage(row.mib << 20); got != row.percent {
			t.Errorf("%d MiB alive: %d %%, want %d", row.mib, got, row.percent)
		}
	}
}

func TestCollectByAmountFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	stop := run.CollectByAmount()
	defer stop()
	held := make([]byte, 64<<20)
	within := time.Now().Add(10 * time.Second)
	for read() >= 100 {
		if time.Now().After(within) {
			t.Fatalf("GOGC is %d with 64 MiB alive", read())
		}
		runtime.GC()
	}
	runtime.KeepAlive(held)
}

func TestGOGCOfTheEnvironmentStays(t *testing.T) {
	t.Setenv("GOGC", "100")
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	defer run.CollectByAmount()()
	held := make([]byte, 64<<20)
	for range 3 {
		runtime.GC()
	}
	runtime.KeepAlive(held)
	if read() != 100 {
		t.Errorf("GOGC is %d", read())
	}
}

// read returns the GOGC in effect.
func read() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}
