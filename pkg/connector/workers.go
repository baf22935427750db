package connector

import (
	"sync"
	"sync/atomic"
)

// maxResting is how many goroutines of a link that has nothing to do are kept: as many as a busy link's exchanges at a time, of which
// else each second one would begin anew. The collector takes what they do not need of their stacks, to 2 KiB each.
const maxResting = 64

// workers run the exchanges of one link. A goroutine that has ended one waits for the next: on the way to the origin a stack grows
// several times, and each time all of it is copied.
type workers struct {
	all     sync.WaitGroup
	work    chan func()
	resting atomic.Int64
}

func newWorkers() *workers { return &workers{work: make(chan func())} }

// run runs f at once, whoever else is busy.
func (w *workers) run(f func()) {
	select {
	case w.work <- f:
	default:
		w.all.Go(func() { w.serve(f) })
	}
}

func (w *workers) serve(f func()) {
	for more := true; more; {
		f()
		if w.resting.Add(1) > maxResting {
			w.resting.Add(-1)
			return
		}
		f, more = <-w.work
		w.resting.Add(-1)
	}
}

// end waits for what runs. Nothing may be run after it.
func (w *workers) end() {
	close(w.work)
	w.all.Wait()
}
