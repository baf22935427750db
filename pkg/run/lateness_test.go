package run

import (
	"math"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestWaited(t *testing.T) {
	bounds := []float64{math.Inf(-1), 0, 0.001, 0.01, 0.1, math.Inf(1)}
	for _, c := range []struct {
		name          string
		before, after []uint64
		want          time.Duration
	}{
		{"nobody waited", []uint64{0, 5, 5, 5, 5}, []uint64{0, 5, 5, 5, 5}, 0},
		{"what was before does not count", []uint64{0, 0, 0, 0, 90}, []uint64{0, 0, 10, 0, 90}, time.Millisecond},
		{"one in ten may wait longer", []uint64{0, 0, 0, 0, 0}, []uint64{0, 0, 90, 0, 10}, time.Millisecond},
		{"two in ten may not", []uint64{0, 0, 0, 0, 0}, []uint64{0, 0, 80, 0, 20}, 100 * time.Millisecond},
		{"below nothing there is nothing", []uint64{0, 0, 0, 0, 0}, []uint64{3, 0, 0, 0, 0}, 0},
	} {
		if got := waited(bounds, c.before, c.after, 0.9); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A process with a hundred goroutines to run for each processor is late, and what it says of that ages.
func TestLateness(t *testing.T) {
	var l Lateness
	if got := l.Late(); got != 0 {
		t.Errorf("before anything is known: %v", got)
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 100 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	for began, tick := time.Now(), time.NewTicker(LatenessEvery); l.Late() == 0; <-tick.C {
		if time.Since(began) > 30*time.Second {
			t.Error("nobody is late with a hundred goroutines for each processor")
			break
		}
	}
	close(stop)
	busy.Wait()
}
