package enroll

import (
	"context"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// maxRemembered bounds what a Remembered keeps; the one that makes room is any.
const maxRemembered = 20_000

// Remembered is a Store that stands in for itself while it is away, as far as links of connectors need it: those that were looked up
// before, and their newest process. Whoever lost its links then gets them back; a process that was never seen does not, since
// nobody can give it a number. Everything else, and all of it while the store answers, is the store's. It is safe for concurrent use.
type Remembered struct {
	Store
	away func() bool

	mu    sync.Mutex // guards known
	known map[id.Connector]remembered
}

type remembered struct {
	connector Connector
	instance  string
	run       Run
}

var _ Store = (*Remembered)(nil)

// Remember returns a Store that remembers; away reports whether the store is known not to answer, and what was known before may
// stand in for it.
func Remember(store Store, away func() bool) *Remembered {
	return &Remembered{Store: store, away: away, known: map[id.Connector]remembered{}}
}

// Connector implements Store.
func (r *Remembered) Connector(ctx context.Context, c id.Connector) (Connector, error) {
	if r.away() {
		if one, ok := r.recall(c); ok {
			return one.connector, nil
		}
	}
	found, err := r.Store.Connector(ctx, c)
	switch {
	case err == nil:
		r.note(c, func(one *remembered) { one.connector = found })
	case fault.Is(err, fault.NotFound):
		r.Forget(c)
	}
	return found, err
}

// JoinRun implements Store.
func (r *Remembered) JoinRun(ctx context.Context, c id.Connector, instance string, newest uint64) (Run, error) {
	if r.away() {
		if one, ok := r.recall(c); ok && one.instance == instance && instance != "" {
			return one.run, nil
		}
	}
	run, err := r.Store.JoinRun(ctx, c, instance, newest)
	if err == nil {
		// That it came back was counted with this call; once is enough.
		r.note(c, func(one *remembered) { one.instance, one.run = instance, Run{Generation: run.Generation} })
	}
	return run, err
}

// Forget drops a connector, of which something has changed.
func (r *Remembered) Forget(c id.Connector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, c)
}

// ForgetAll drops them all.
func (r *Remembered) ForgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.known)
}

// recall returns one that was looked up and may have links.
func (r *Remembered) recall(c id.Connector) (remembered, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.known[c]
	return one, ok && one.connector.ID == c
}

func (r *Remembered) note(c id.Connector, change func(*remembered)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.known[c]
	if !ok && len(r.known) >= maxRemembered {
		for other := range r.known {
			delete(r.known, other)
			break
		}
	}
	change(&one)
	r.known[c] = one
}
