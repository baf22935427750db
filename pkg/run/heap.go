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
// holds more than half of least is not given a byte more than Go would. Where garbage would fill it more than once in two seconds, least is twice as much
// (DESIGN.md has what that saves). While one that holds much does little, it gets a quarter of what Go would give: an
// edge with a thousand idle connectors would hold them twice; and once it has done little for a while, what is free goes back to the
// system. It is for a whole process: main calls it, once. An
// operator's GOGC stands, and GOMEMLIMIT bounds it like everything else. stop leaves things as they then are.
func Heap(least uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	h := &heap{least: least, percent: 100, last: time.Now().Add(-quiet)} // nothing that has just begun is busy
	h.adjust()
	h.after()
	return func() { h.stopped.Store(true) }
}

type heap struct {
	least   uint64
	percent int
	last    time.Time // when the last collection was
	past    past
	rest    rest
	stopped atomic.Bool
}

// rest is how long a process has done little.
type rest struct {
	collections int // in a row that found it so
	returned    time.Time
}

// What was needed while a heap was filled stays free beside it: Go keeps a tenth for the next need. That of a process at rest finds
// room in the holes between what is alive, so that it does without. It costs one collection, and this is how rarely.
const (
	restCollections = 3
	returnEvery     = 10 * time.Minute
)

// over reports whether what is free is to be returned now that a heap may grow by percent.
func (r *rest) over(now time.Time, percent int) bool {
	if percent != stillPercent {
		r.collections = 0
		return false
	}
	r.collections++
	if r.collections < restCollections || !r.returned.IsZero() && now.Sub(r.returned) < returnEvery {
		return false
	}
	r.returned = now
	return true
}

// past remembers how many bytes were alive some seconds ago.
type past struct{ older, newer mark }

type mark struct {
	at   time.Time
	live uint64
}

// fillSpan is for how long a heap must have grown little until it is not being filled any more. From one collection to the next is too
// short for it: what comes brings ten times as much garbage, so that little of what a collection looks at has come since the last.
const fillSpan = 5 * time.Second

// before returns how many bytes were alive one to two fillSpan ago, as far as that is known, and remembers those of now.
func (p *past) before(now time.Time, live uint64) uint64 {
	switch this := (mark{now, live}); {
	case p.older.live == 0:
		p.older, p.newer = this, this
	case now.Sub(p.newer.at) >= fillSpan:
		p.older, p.newer = p.newer, this
	}
	return p.older.live
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
const worthwhile = 5

func (h *heap) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	now := time.Now()
	c := collection{live: max(live[0].Value.Uint64(), smallHeap), percent: h.percent, took: now.Sub(h.last)}
	c.before = h.past.before(now, c.live)
	percent := c.growth(h.least)
	h.last = now
	if change := percent - h.percent; change >= worthwhile || change <= -worthwhile || percent == 100 && change != 0 {
		debug.SetGCPercent(percent)
		h.percent = percent
	}
	if h.rest.over(now, percent) {
		debug.FreeOSMemory() // collects, which after does not see: how soon it came says nothing
		h.last = time.Now()
	}
}

// collection is what one found.
type collection struct {
	live, before uint64        // bytes alive, now and some seconds ago; 0 is not known
	percent      int           // by how many the heap could grow
	took         time.Duration // since the one before
}

// smallHeap stands for a live heap that is not known yet, or is smaller: that of a program that has just started.
const smallHeap = 2 << 20

// A heap that would double before busy is over grows as far as Go lets it; one that would not before quiet is over, by a quarter
// of that; and by half of this where collections are so far apart that each second of them reads no more than stillRate bytes,
// which is a few hundredths of a core.
const (
	busy      = time.Second
	quiet     = 2 * time.Second
	stillRate = 64 << 20

	quietPercent = 25
	stillPercent = 12
	// fillingPercent is for a heap whose live part has grown by an eighth. What came to stay lies among garbage, and the holes that
	// this leaves are given to whoever needs their size, but not back to the system.
	fillingPercent = 30
)

// growth is by how many percent the heap may grow until the next collection.
func (c collection) growth(least uint64) int {
	grown := c.live - min(c.before, c.live)
	if c.live < least && grown <= least/8 && c.brings(least) < quiet {
		least *= 2
	}
	if c.live < least/2 {
		return int((least - c.live) * 100 / c.live)
	}
	most := min(c.percent, 100)
	switch doubles := c.took * 100 / time.Duration(max(c.percent, 1)); {
	case doubles > quiet:
		most = quietPercent
		if apart := doubles.Seconds() * stillPercent / 100; float64(c.live) <= stillRate*apart {
			most = stillPercent
		}
	case c.before > 0 && grown > c.before/8:
		most = fillingPercent
	case doubles < busy:
		most = 100
	case most < quietPercent: // it is not still any more
		most = quietPercent
	}
	if c.live < least {
		most = max(most, int((least-c.live)*100/c.live))
	}
	return most
}

// brings is how long it takes until there is as much garbage as that.
func (c collection) brings(garbage uint64) time.Duration {
	brought := float64(c.live) * float64(max(c.percent, 1)) / 100
	return time.Duration(min(c.took.Seconds()*float64(garbage)/brought, time.Hour.Seconds()) * float64(time.Second))
}
