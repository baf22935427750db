package run

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"time"
)

const (
	schedulerWaits = "/sched/latencies:seconds"
	// LatenessEvery is how often a Lateness looks.
	LatenessEvery = 100 * time.Millisecond
	// latenessSpan is how long a time it judges at most: what was long ago says nothing of now.
	latenessSpan = time.Second
	// lateShare is how many of those that waited had waited no longer.
	lateShare = 0.9
)

// Lateness tells how long goroutines that are ready wait for a processor: a process that has more to do than its machine gives
// it time for shows it there first, whatever it is that it does, and whoever else uses the machine. It looks when it is asked, so
// that it costs nothing else. The zero value is ready. It is safe for concurrent use.
type Lateness struct {
	mu     sync.Mutex // guards all below
	waits  []metrics.Sample
	before []uint64
	at     time.Time
	late   time.Duration
}

// Late is what nine in ten of those that ran lately waited at most; 0 where nobody has asked within the last second.
func (l *Lateness) Late() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	since := now.Sub(l.at)
	if since < LatenessEvery {
		return l.late
	}
	if l.waits == nil {
		l.waits = []metrics.Sample{{Name: schedulerWaits}}
	}
	metrics.Read(l.waits)
	h := l.waits[0].Value.Float64Histogram()
	if l.late = 0; since <= latenessSpan {
		l.late = waited(h.Buckets, l.before, h.Counts, lateShare)
	}
	l.before, l.at = append(l.before[:0], h.Counts...), now
	return l.late
}

// waited is the lower bound of the bucket that holds the given share of what was counted between before and after: what waited that
// long or less. Bucket i ends where i+1 begins.
func waited(bounds []float64, before, after []uint64, share float64) time.Duration {
	counts := slices.Clone(after)
	var all uint64
	for i := range counts {
		counts[i] -= before[i]
		all += counts[i]
	}
	if all == 0 {
		return 0
	}
	left := share * float64(all)
	for i, n := range counts {
		if left -= float64(n); left <= 0 {
			return time.Duration(math.Max(bounds[i], 0) * float64(time.Second))
		}
	}
	return 0
}
