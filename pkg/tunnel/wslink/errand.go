package wslink

import "sync"

// errand is work that arrives by the piece and is done in its order by one goroutine, which lives while some is due: most links are
// idle, and at an edge with thousands each goroutine that only waits holds a stack of 4 KiB.
type errand struct {
	mu   sync.Mutex // guards all below
	due  int64
	busy bool // somebody does it, or will once it can be done
}

// endless is more than will ever be due: who does the work goes on until it fails.
const endless = 1 << 40

// add reports whether the caller has to see that it is done, because nobody does it now.
func (e *errand) add(n int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.due += n
	if e.busy {
		return false
	}
	e.busy = true
	return true
}

// next takes a piece of n; without one the goroutine that calls it ends.
func (e *errand) next(n int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = e.due >= n
	if e.busy {
		e.due -= n
	}
	return e.busy
}
