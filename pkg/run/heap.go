package run

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// Heap makes garbage wait until the heap has least bytes, and from there on until it has doubled, which is Go's own rule for
// every size. A process that serves a lot and holds little otherwise collects a few megabytes many times a second; one that
// holds more than half of least is not given a byte more than Go would. While such a one does little, it gets a quarter of that: an
// edge with a thousand idle connectors would hold them twice. It is for a whole process: main calls it, once. An
// operator's GOGC stands, and GOMEMLIMIT bounds it like everything else. stop leaves things as they then are.
func Heap(least uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	h := &heap{least: least, percent: 100, last: time.Now()}
	h.adjust()
	h.after()
	return func() { h.stopped.Store(true) }
}

type heap struct {
	least   uint64
	percent int
	last    time.Time // of the last collection
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
	now := time.Now()
	percent := growth(live[0].Value.Uint64(), h.least, h.percent, now.Sub(h.last))
	h.last = now
	if change := percent - h.percent; change >= worthwhile || change <= -worthwhile || percent == 100 && change != 0 {
		debug.SetGCPercent(percent)
		h.percent = percent
	}
}

// smallHeap stands for a live heap that is not known yet, or is smaller: that of a program that has just started.
const smallHeap = 2 << 20

// A heap that would double before busy is over grows as far as Go lets it, one that would not before quiet is over by idle percent.
const (
	busy  = time.Second
	quiet = 2 * time.Second
	idle  = 25
)

// growth is by how many percent a heap of live bytes may grow, when it could by last and took since for it.
func growth(live, least uint64, last int, since time.Duration) int {
	live = max(live, smallHeap)
	if live < least/2 {
		return int((least - live) * 100 / live)
	}
	switch doubles := since * 100 / time.Duration(max(last, 1)); {
	case doubles < busy:
		last = 100
	case doubles > quiet:
		last = idle
	}
	most := min(last, 100)
	if live < least {
		most = max(most, int((least-live)*100/live))
	}
	return most
}
