package ingress

import (
	"context"
	"slices"
	"sync"
)

// Swap puts other rules in force, at once and whole: an exchange goes by the rules that it met when it came, to its end, on
// the origins that they had. Origins that stay as they are keep their connections, queue, circuit and health; the others'
// kept connections are closed, and so is each that an exchange still holds once it has ended.
func (in *Ingress) Swap(rules *Rules) {
	in.swapping.Lock()
	defer in.swapping.Unlock()
	old := in.current.Load()
	next := in.assemble(rules, old)
	in.current.Store(next)
	for _, o := range old.origins {
		if !next.has(o) {
			o.close()
		}
	}
	select {
	case in.swapped <- struct{}{}:
	default: // Run is to look already, and finds this table
	}
}

func (t *table) has(o *origin) bool {
	return slices.Contains(t.origins, o)
}

// Run checks the origins of the rules in force, each at once and then at its interval, until ctx ends; it always returns nil.
func (in *Ingress) Run(ctx context.Context) error {
	var all sync.WaitGroup
	watched := map[*origin]context.CancelFunc{}
	defer func() {
		for _, stop := range watched {
			stop()
		}
		all.Wait()
		in.Close()
	}()
	for {
		t := in.current.Load()
		for o, stop := range watched {
			if !t.has(o) {
				stop()
				delete(watched, o)
			}
		}
		for _, o := range t.origins {
			if watched[o] == nil {
				mine, stop := context.WithCancel(ctx)
				watched[o] = stop
				all.Go(func() { o.watch(mine) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-in.swapped:
		}
	}
}

// NoRules are the rules of a connector that has none: whatever is asked for, no rule wants it (404).
func NoRules() *Rules { return &Rules{list: []Rule{{Index: 1, Path: "/", Status: 404}}} }
