package ingress

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBusy is what an exchange gets that found the queue full or waited too long in it.
var errBusy = errors.New("too many requests are waiting for the origin")

// queue lets a number of exchanges through at once and makes the others wait their turn, fairly between keys (one per
// principal): turns go round, no key holds more than half of the places, so that one person's slow reports leave room for
// everybody else, and when the queue is full it is the longest line that gives way, so that a booking system with hundreds of
// requests does not shut the door on a doctor with one.
type queue struct {
	perKey, maxWaiting int

	mu      sync.Mutex
	places  int
	free    int
	waiting int
	held    map[uint64]int
	lines   map[uint64][]*turn
	order   []uint64 // keys with somebody waiting, in the order of their turns
}

// turn is one waiting exchange; ended takes nil once it holds a place, or why it never will.
type turn struct{ ended chan error }

func newQueue(parallel, waiting int) *queue {
	return &queue{
		perKey: max(1, parallel/2), maxWaiting: waiting, places: parallel, free: parallel,
		held: map[uint64]int{}, lines: map[uint64][]*turn{},
	}
}

// acquire returns once key holds a place; give it back with release. It fails with errBusy, with the cause of ctx, or with
// what drop was given.
func (q *queue) acquire(ctx context.Context, key uint64, patience time.Duration) error {
	t, err := q.join(key)
	if t == nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-t.ended:
		return err
	case <-timer.C:
		return q.leave(key, t, errBusy)
	case <-ctx.Done():
		return q.leave(key, t, context.Cause(ctx))
	}
}

// join takes a place, or else returns the turn to wait for.
func (q *queue) join(key uint64) (*turn, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Whoever waits while places are free is at its own limit, so nobody is overtaken here.
	if q.free > 0 && q.held[key] < q.perKey {
		q.take(key)
		return nil, nil
	}
	if q.waiting >= q.maxWaiting && !q.makeRoom(key) {
		return nil, errBusy
	}
	t := &turn{ended: make(chan error, 1)}
	if len(q.lines[key]) == 0 {
		q.order = append(q.order, key)
	}
	q.lines[key] = append(q.lines[key], t)
	q.waiting++
	return t, nil
}

// makeRoom sends away the last of the longest line, if that is longer than key's would become; mu is held.
func (q *queue) makeRoom(key uint64) bool {
	longest, length := uint64(0), len(q.lines[key])+1
	for _, k := range q.order {
		if n := len(q.lines[k]); n > length {
			longest, length = k, n
		}
	}
	if length == len(q.lines[key])+1 {
		return false
	}
	line := q.lines[longest]
	line[length-1].ended <- errBusy
	q.lines[longest] = line[:length-1]
	q.waiting--
	return true
}

// leave gives up waiting. A place that was granted in the same instant goes back.
func (q *queue) leave(key uint64, t *turn, why error) error {
	q.mu.Lock()
	line := q.lines[key]
	for i := range line {
		if line[i] != t {
			continue
		}
		q.lines[key] = append(line[:i:i], line[i+1:]...)
		q.waiting--
		q.tidy()
		q.mu.Unlock()
		return why
	}
	q.mu.Unlock()
	if err := <-t.ended; err != nil {
		return err
	}
	q.release(key)
	return why
}

// drop ends the waiting of everybody with err.
func (q *queue) drop(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range q.lines {
		for _, t := range line {
			t.ended <- err
		}
	}
	clear(q.lines)
	q.order, q.waiting = nil, 0
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
	for i, key := range q.order {
		if q.held[key] >= q.perKey {
			continue
		}
		line := q.lines[key]
		q.take(key)
		q.waiting--
		line[0].ended <- nil
		q.lines[key] = line[1:]
		q.order = append(q.order[:i], q.order[i+1:]...)
		if len(line) > 1 {
			q.order = append(q.order, key)
		} else {
			delete(q.lines, key)
		}
		return true
	}
	return false
}

// tidy forgets keys with nobody left in line; mu is held.
func (q *queue) tidy() {
	kept := q.order[:0]
	for _, key := range q.order {
		if len(q.lines[key]) > 0 {
			kept = append(kept, key)
		} else {
			delete(q.lines, key)
		}
	}
	q.order = kept
}

func (q *queue) take(key uint64) {
	q.free--
	q.held[key]++
}

// load returns how many exchanges hold places and how many wait for one.
func (q *queue) load() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.places - q.free, q.waiting
}
