package run

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Heap makes garbage wait until the heap has least bytes, and from there on until it has doubled, which is Go's own rule for
// every size. A process that serves a lot and holds little otherwise collects a few megabytes many times a second; one that
// holds more than half of least is not given a byte more than Go would. It is for a whole process: main calls it, once. An
// operator's GOGC stands, and GOMEMLIMIT bounds it like everything else. stop leaves things as they then are.
func Heap(least uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	h := &heap{least: least, percent: 100}
	h.adjust()
	h.after()
	return func() { h.stopped.Store(true) }
}

type heap struct {
	least   uint64
	percent int
	stopped atomic.Bool
}

// after adjusts after every collection: what is unreachable is cleaned up by the next one.
func (h *heap) after() {
	runtime.AddCleanup(new([32]byte), func(h *heap) {
		if !h.stopped.Load() {
			h.adjust()
			h.after()
		}
	}, h)
}

// worthwhile is by how much the percentage must change: setting it stops the world for a moment.
const worthwhile = 10

func (h *heap) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := growth(live[0].Value.Uint64(), h.least)
	if change := percent - h.percent; change >= worthwhile || change <= -worthwhile || percent == 100 && change != 0 {
		debug.SetGCPercent(percent)
		h.percent = percent
	}
}

// smallHeap stands for a live heap that is not known yet, or is smaller: that of a program that has just started.
const smallHeap = 2 << 20

// growth is by how many percent a heap of live bytes may grow.
func growth(live, least uint64) int {
	live = max(live, smallHeap)
	if live >= least/2 {
		return 100
	}
	return int((least - live) * 100 / live)
}
