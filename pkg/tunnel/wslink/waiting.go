package wslink

import "sync"

// waiting holds the peer's streams that Accept has not taken. A channel with room for all that may come would be the largest part
// of an idle link that is ours.
type waiting struct {
	mu    sync.Mutex // guards queue
	queue []*stream
	// any holds a token while queue is not empty.
	any chan struct{}
}

func newWaiting() *waiting { return &waiting{any: make(chan struct{}, 1)} }

// put reports whether there was room for one more, of at most limit.
func (w *waiting) put(s *stream, limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= limit {
		return false
	}
	w.queue = append(w.queue, s)
	w.signal()
	return true
}

// take returns the stream that has waited longest. Whoever got the token of any calls it, and it is nil only for others.
func (w *waiting) take() *stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	s := w.queue[0]
	w.queue[0] = nil
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil
		return s
	}
	w.signal()
	return s
}

// signal is called under mu.
func (w *waiting) signal() {
	select {
	case w.any <- struct{}{}:
	default:
	}
}
