package connector

import (
	"runtime"
	"sync"
	"testing"
)

// Whoever comes while all are busy does not wait; who has nothing to do takes the next, and few of them stay.
func TestWorkersHoldNobodyUpAndFewStay(t *testing.T) {
	w := newWorkers()
	for range 3 {
		const many = 20 * maxResting
		gate := make(chan struct{})
		var begun, done sync.WaitGroup
		begun.Add(many)
		done.Add(many)
		for range many {
			w.run(func() {
				defer done.Done()
				begun.Done()
				<-gate
			})
		}
		begun.Wait() // all at the same time
		close(gate)
		done.Wait()
	}
	for w.resting.Load() > maxResting {
		runtime.Gosched() // those that are one too many are about to leave
	}
	w.end() // returns once nobody is left
}
