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
	// PerSource is how many of them may come from one source; default 32. Of several sources none gets more than are free besides, so
	// that it takes about as many sources as there are places to shut the door for others: ten have 6 of 64 each.
	PerSource int
	// Limit is how long a place is kept at most; default 10 s.
	Limit time.Duration
	// Late, if set, tells how long what is ready to run in this process waits for a processor. While that is long there are fewer
	// places, down to leastPlaces: links that are being opened take the time in which heartbeats of those that are up must be
	// answered, and what is lost for that has to be opened again.
	Late func() time.Duration

	mu      sync.Mutex // guards all below
	taken   int
	room    int       // how many places there are now, where Late is set; 0 before it was asked
	looked  time.Time // when it was
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
	// leastPlaces is how many there are however late everything is: with a peer at 80 ms it is twelve links a second.
	leastPlaces = 4
	// doorLook is how often the room is changed, by how late this process is: a link takes some twenty turns of a processor on
	// each side, and an answer to a heartbeat six, with two seconds in hand.
	doorLook = 100 * time.Millisecond
	tooLate  = 25 * time.Millisecond
	inTime   = 10 * time.Millisecond
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
	places := d.places()
	ofOne := max(orDefault(d.PerSource, doorSource)*places/orDefault(d.Places, doorPlaces), 1) // in proportion
	free, has := places-d.taken, d.from[source]
	if free <= 0 || has >= ofOne || 0 < has && has < d.taken && has >= free {
		return false
	}
	if d.from == nil {
		d.from = map[string]int{}
	}
	d.taken++
	d.from[source]++
	return true
}

// places is how many there are now.
func (d *Door) places() int {
	most := orDefault(d.Places, doorPlaces)
	if d.Late == nil {
		return most
	}
	if now := time.Now(); d.room == 0 || now.Sub(d.looked) >= doorLook {
		d.room, d.looked = room(orDefault(d.room, most), most, d.Late()), now
	}
	return d.room
}

// room is how many places are to be had, where there are now so many, of so many at most, and this process is so late.
func room(now, most int, late time.Duration) int {
	switch {
	case late > tooLate:
		now /= 2
	case late < inTime:
		now += max(now/4, 1)
	}
	return min(max(now, leastPlaces), most)
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
	for i := 0; i < len(d.waiting) && d.taken < d.places(); {
		c := d.waiting[i]
		if !d.take(c.source) {
			i++
			continue
		}
		d.waiting = slices.Delete(d.waiting, i, i+1)
		close(c.let)
	}
}
