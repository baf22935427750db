package proxy

import (
	"io"
	"sync"
	"time"
)

// flushAfter is how long bytes of a stream without a length may wait for more to join them.
const flushAfter = 2 * time.Millisecond

// flusher passes the bytes of an answer without a length on and flushes them once the source has paused: a busy source
// costs one flush every 2 ms at most, an event stream is delayed by no more than that. An answer that ends sooner is never
// flushed at all.
type flusher struct {
	w     io.Writer
	flush func() error

	mu      sync.Mutex // excludes a write and a flush
	timer   *time.Timer
	pending bool
	stopped bool
}

var _ io.Writer = (*flusher)(nil)

// newFlusher writes to w and calls flush; the two never run at the same time. The head counts as bytes that wait.
func newFlusher(w io.Writer, flush func() error) *flusher {
	f := &flusher{w: w, flush: flush, pending: true}
	f.timer = time.AfterFunc(flushAfter, f.fire)
	return f
}

func (f *flusher) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(p)
	if err == nil && !f.pending && !f.stopped {
		f.pending = true
		f.timer.Reset(flushAfter)
	}
	return n, err
}

func (f *flusher) fire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.pending || f.stopped {
		return
	}
	f.pending = false
	// A failed flush shows as a failed write.
	_ = f.flush()
}

// Stop returns once no flush runs and none will.
func (f *flusher) Stop() {
	f.timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}
