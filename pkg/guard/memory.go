package guard

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// The shares of GOMEMLIMIT at which requests are shed and connections refused.
const (
	shedAt   = 0.95
	refuseAt = 0.98
)

// lookEvery is how old a look at the memory may be.
const lookEvery = 250 * time.Millisecond

// memory says how much of GOMEMLIMIT is in use; without a limit, nothing ever is.
type memory struct {
	now    func() time.Time
	used   func() float64
	looked atomic.Int64  // unix nanoseconds
	share  atomic.Uint64 // bits of a float64
}

func newMemory(now func() time.Time) *memory { return &memory{now: now, used: share} }

func (m *memory) above(limit float64) bool {
	now, last := m.now().UnixNano(), m.looked.Load()
	// A last look that lies ahead was made before the clock was set back.
	if gap := now - last; (gap >= int64(lookEvery) || gap < -int64(lookEvery)) && m.looked.CompareAndSwap(last, now) {
		m.share.Store(math.Float64bits(m.used()))
	}
	return math.Float64frombits(m.share.Load()) > limit
}

// share counts what the last collection left alive and the stacks. What is merely not collected yet may come near the limit
// at any time and says nothing.
func share() float64 {
	limit := debug.SetMemoryLimit(-1)
	if limit <= 0 || limit == math.MaxInt64 {
		return 0
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64()+samples[1].Value.Uint64()) / float64(limit)
}
