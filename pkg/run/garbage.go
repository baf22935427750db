package run

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// How much garbage a process may hold between two collections. Go's own rule, as much again as is alive, fits neither end of an
// edge's life: with a clinic or two it collects every few megabytes, and with a thousand idle connectors what they hold counts
// twice. So it is a fixed amount for small heaps and a share of large ones: a collection costs what is alive, and happens once
// for so much garbage.
const (
	garbageLeast = 24 << 20
	garbageShare = 4 // at most one part in garbageShare of what is alive, above garbageLeast
	// percentMost bounds how far the heap may grow before the rule is applied anew: it is after each collection.
	percentMost = 400
)

// Garbage returns the GOGC for a heap of which alive bytes are left after a collection, stacks and globals included.
func Garbage(alive uint64) (percent int) {
	least := math.Ceil(garbageLeast * 100 / float64(max(alive, 1)))
	return int(min(max(least, 100/garbageShare), percentMost))
}

// CollectByAmount applies Garbage after each collection until stop is called. Where GOGC is set in the environment it does
// nothing: the operator has decided. GOMEMLIMIT holds beside it. It is for the one owner of a process.
func CollectByAmount() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	var over atomic.Bool
	now := 100
	// The finalizer of an object that nothing holds runs after each collection; it is one goroutine's work.
	var follow func()
	follow = func() {
		runtime.SetFinalizer(&struct{ _ [64]byte }{}, func(any) {
			if over.Load() {
				return
			}
			if next := Garbage(alive()); next != now {
				debug.SetGCPercent(next)
				now = next
			}
			follow()
		})
	}
	follow()
	return func() { over.Store(true) }
}

// alive is what the next collection counts as such (https://go.dev/doc/gc-guide#GOGC).
func alive() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
