package tunnel

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Door bounds how many links are on their way in at a time: from before any work is done for one, its TLS handshake above all,
// until it is admitted or has failed. An edge that begins more handshakes than it can finish in time finishes none, and who finds
// no place costs next to nothing. The zero value is ready; set nothing after first use. It is safe for concurrent use.
type Door struct {
	// Places is how many may be on their way; default 64. A peer at 80 ms takes a third of a second, so that is 200 a second.
	Places int
	// PerSource is how many of them may come from one source, so that nobody shuts the door for others; default 32.
	PerSource int
	// Limit is how long a place is kept at most; default 10 s.
	Limit time.Duration

	mu      sync.Mutex // guards all below
	taken   int
	from    map[string]int
	waiting []*comer // in the order in which they came
}

// comer waits for a place.
type comer struct {
	source string
	let    chan struct{} // closed when it has one
}

const (
	doorPlaces = 64
	doorSource = 32
	doorLimit  = 10 * time.Second
)

// Enter takes a place for a link from source if one is free and nobody waits; leave gives it back, once however often it is called.
func (d *Door) Enter(source string) (leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) > 0 || !d.take(source) {
		return nil, false
	}
	return d.leaver(source), true
}

// Wait takes a place for a link from source, in the order of those who wait, or fails when ctx ends.
func (d *Door) Wait(ctx context.Context, source string) (leave func(), err error) {
	if leave, ok := d.Enter(source); ok {
		return leave, nil
	}
	c := &comer{source: source, let: make(chan struct{})}
	d.mu.Lock()
	d.waiting = append(d.waiting, c)
	d.admit() // a place may have come free since
	d.mu.Unlock()
	select {
	case <-c.let:
		return d.leaver(source), nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-c.let: // at the last moment
		d.leave(source)
	default:
		d.waiting = slices.DeleteFunc(d.waiting, func(other *comer) bool { return other == c })
	}
	return nil, context.Cause(ctx)
}

func (d *Door) leaver(source string) func() {
	leave := sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.leave(source)
	})
	limit := time.AfterFunc(orDefault(d.Limit, doorLimit), leave)
	return func() {
		limit.Stop()
		leave()
	}
}

// take counts a place of source, if there is one; the caller holds mu, here and below.
func (d *Door) take(source string) bool {
	if d.taken >= orDefault(d.Places, doorPlaces) || d.from[source] >= orDefault(d.PerSource, doorSource) {
		return false
	}
	if d.from == nil {
		d.from = map[string]int{}
	}
	d.taken++
	d.from[source]++
	return true
}

func (d *Door) leave(source string) {
	d.taken--
	if d.from[source]--; d.from[source] == 0 {
		delete(d.from, source)
	}
	d.admit()
}

// admit lets in who has waited longest of those whose source has a place left.
func (d *Door) admit() {
	for i := 0; i < len(d.waiting) && d.taken < orDefault(d.Places, doorPlaces); {
		c := d.waiting[i]
		if !d.take(c.source) {
			i++
			continue
		}
		d.waiting = slices.Delete(d.waiting, i, i+1)
		close(c.let)
	}
}
