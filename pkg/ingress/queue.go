package ingress

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBusy is what an exchange gets that found the queue full or waited too long in it.
var errBusy = errors.New("too many requests are waiting for the origin")

// queue lets a number of exchanges through at once and makes the others wait their turn, fairly: turns go round the keys
// (one per session), and no key holds more than three quarters of the places, so that one person's slow reports leave room
// for everybody else.
type queue struct {
	perKey, maxWaiting int

	mu      sync.Mutex
	free    int
	waiting int
	held    map[uint64]int
	queues  map[uint64][]*turn
	order   []uint64 // keys with somebody waiting, in the order of their turns
}

// turn is one waiting exchange; granted is closed once it holds a place.
type turn struct{ granted chan struct{} }

func newQueue(parallel, waiting int) *queue {
	return &queue{
		perKey: max(1, parallel-parallel/4), maxWaiting: waiting, free: parallel,
		held: map[uint64]int{}, queues: map[uint64][]*turn{},
	}
}

// acquire returns once key holds a place; give it back with release. It fails with errBusy, or with the cause of ctx.
func (q *queue) acquire(ctx context.Context, key uint64, patience time.Duration) error {
	q.mu.Lock()
	// Whoever waits while places are free is at its own limit, so nobody is overtaken here.
	if q.free > 0 && q.held[key] < q.perKey {
		q.take(key)
		q.mu.Unlock()
		return nil
	}
	if q.waiting >= q.maxWaiting {
		q.mu.Unlock()
		return errBusy
	}
	t := &turn{granted: make(chan struct{})}
	if len(q.queues[key]) == 0 {
		q.order = append(q.order, key)
	}
	q.queues[key] = append(q.queues[key], t)
	q.waiting++
	q.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.granted:
		return nil
	case <-timer.C:
		return q.leave(key, t, errBusy)
	case <-ctx.Done():
		return q.leave(key, t, context.Cause(ctx))
	}
}

// leave gives up waiting. A place that was granted in the same instant goes back.
func (q *queue) leave(key uint64, t *turn, why error) error {
	q.mu.Lock()
	line := q.queues[key]
	for i := range line {
		if line[i] == t {
			q.queues[key] = append(line[:i:i], line[i+1:]...)
			q.waiting--
			q.mu.Unlock()
			return why
		}
	}
	q.mu.Unlock()
	q.release(key)
	return why
}

func (q *queue) release(key uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	if q.held[key]--; q.held[key] == 0 {
		delete(q.held, key)
	}
	for q.free > 0 && q.next() {
	}
}

// next gives one place to the first key in turn that may hold another; mu is held.
func (q *queue) next() bool {
	for i := 0; i < len(q.order); i++ {
		key := q.order[i]
		line := q.queues[key]
		switch {
		case len(line) == 0:
			q.order = append(q.order[:i], q.order[i+1:]...)
			delete(q.queues, key)
			i--
			continue
		case q.held[key] >= q.perKey:
			continue
		}
		q.take(key)
		q.waiting--
		close(line[0].granted)
		q.queues[key] = line[1:]
		q.order = append(q.order[:i], q.order[i+1:]...)
		if len(line) > 1 {
			q.order = append(q.order, key)
		} else {
			delete(q.queues, key)
		}
		return true
	}
	return false
}

func (q *queue) take(key uint64) {
	q.free--
	q.held[key]++
}

// load returns how many exchanges wait.
func (q *queue) load() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}
