// Package run owns how the parts of a process start, live and stop together: in order, in reverse, each wait bounded; and how
// much garbage their process may hold, and how late that is. It knows nothing of what the parts do, and reads no signals (cmd does).
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Part is one running part of a process.
type Part struct {
	Name string
	// Run works until ctx ends and returns nil then; an earlier return, or an error, ends the whole group.
	Run func(ctx context.Context) error
	// Drain, where set, is called before ctx ends, last part first: stop taking new work and finish what is there, until
	// its own ctx ends.
	Drain func(ctx context.Context)
}

// Group is a list of parts. Later parts may rely on earlier ones, so they are stopped first.
type Group struct {
	// DrainTimeout bounds all Drain calls together; it is asked when they begin, nil is 30 s. StopTimeout bounds each part's return
	// after its ctx ended.
	DrainTimeout func() time.Duration
	StopTimeout  time.Duration
	parts        []Part
}

// Defaults of Group: 30 s to finish what is in flight, 5 s for a part to return.
const (
	DefaultDrainTimeout = 30 * time.Second
	DefaultStopTimeout  = 5 * time.Second
)

// Add appends a part.
func (g *Group) Add(p Part) { g.parts = append(g.parts, p) }

// Run starts the parts and blocks until ctx ends or one of them stops, then drains and stops all in reverse order. It
// returns the first error, joined with the parts that did not stop in time.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan error, len(g.parts))
	running := make([]*running, 0, len(g.parts))
	for _, p := range g.parts {
		running = append(running, start(p, ended))
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended:
	}
	g.drain()
	return errors.Join(first, g.stop(running))
}

type running struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

func start(p Part, ended chan<- error) *running {
	// A part must outlive the group's ctx until its turn in the reverse order has come.
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{name: p.Name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		err := p.Run(ctx)
		switch {
		case ctx.Err() != nil:
			err = nil
		case err != nil:
			err = fmt.Errorf("%s: %w", p.Name, err)
		default:
			err = fmt.Errorf("%s: stopped by itself", p.Name)
		}
		ended <- err
	}()
	return r
}

func (g *Group) drain() {
	limit := DefaultDrainTimeout
	if g.DrainTimeout != nil {
		limit = g.DrainTimeout()
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := len(g.parts) - 1; i >= 0; i-- {
		if drain := g.parts[i].Drain; drain != nil {
			wg.Go(func() { drain(ctx) })
		}
	}
}

func (g *Group) stop(parts []*running) error {
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].cancel()
		select {
		case <-parts[i].done:
		case <-time.After(orDefault(g.StopTimeout, DefaultStopTimeout)):
			errs = append(errs, fmt.Errorf("%s: did not stop in time", parts[i].name))
		}
	}
	return errors.Join(errs...)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
