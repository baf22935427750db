package connector

import (
	"context"
	"errors"
	"sync"
)

var errPaused = errors.New("a successor takes over")

// dials says whether links may be opened, and as which run of the connector. While a successor takes over, this process opens
// none: a run that opens links after a newer one has done so is what a copied key looks like to the edge.
type dials struct {
	mu       sync.Mutex // guards all below
	instance string
	paused   bool
	ctx      context.Context // ends the attempts that run
	cancel   context.CancelFunc
	running  sync.WaitGroup // added to only while not paused
}

func newDials(instance string) *dials {
	d := &dials{instance: instance}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// begin starts an attempt; end must be called when it is over. ok is false while there must be none.
func (d *dials) begin(ctx context.Context) (_ context.Context, instance string, end func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused {
		return nil, "", nil, false
	}
	d.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, d.instance, func() {
		stop()
		cancel()
		d.running.Done()
	}, true
}

// pause lets no attempt begin, ends those that run, and returns when they have ended.
func (d *dials) pause() {
	d.mu.Lock()
	d.paused = true
	d.cancel()
	d.mu.Unlock()
	d.running.Wait()
}

// resume lets links be opened again, as another run: a successor may have opened some meanwhile.
func (d *dials) resume(instance string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instance, d.paused = instance, false
	d.ctx, d.cancel = context.WithCancel(context.Background())
}

func (d *dials) isPaused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused
}

// resume has all lanes dial again, and put new links in the place of those that a successor's may have superseded.
func (e *edges) resume() {
	e.dials.resume(newInstance())
	for _, s := range e.all() {
		for _, l := range s.lanes {
			l.mu.Lock()
			l.way++
			l.renew = len(l.serving) > 0
			l.mu.Unlock()
			l.wake()
		}
	}
}

// settled reports whether every lane to every edge that is kept has a link, and whether any fast one had a round trip.
func (e *edges) settled() (all, some bool) {
	_, _, some = e.fresh()
	all = some
	for _, s := range e.all() {
		if s.retired {
			continue
		}
		_, _, fresh := s.fresh()
		all = all && fresh
		for _, l := range s.lanes {
			l.mu.Lock()
			all = all && len(l.serving) > 0
			l.mu.Unlock()
		}
	}
	return all, some
}
