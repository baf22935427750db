package access

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// cache holds copies of what the store knows, at most max of them beside those that are being read, and none longer than ttl,
// unless the store is away: then they stand in for it, for as long as trust allows. A copy that is being read while its original
// changes is thrown away and read again, so that drop leaves nothing older than itself behind. Failures are not kept.
type cache[K comparable, V any] struct {
	max   int
	ttl   time.Duration
	now   func() time.Time
	trust func() trust

	mu      sync.Mutex // guards entries and what is inside them; not held while reading
	entries map[K]*entry[V]
}

type entry[V any] struct {
	ready  chan struct{} // closed when value and err are set
	loaded bool
	stale  bool // changed while it was being read
	value  V
	err    error
	read   time.Time
	again  time.Time // when it is worth reading again; zero: with its age
}

func newCache[K comparable, V any](limit int, ttl time.Duration, now func() time.Time, trust func() trust) *cache[K, V] {
	return &cache[K, V]{max: limit, ttl: ttl, now: now, trust: trust, entries: map[K]*entry[V]{}}
}

// get returns the copy for k, reading it with load if need be; concurrent calls for one key share one read. load gets the
// copy that it replaces, or the zero value.
func (c *cache[K, V]) get(ctx context.Context, k K, load func(ctx context.Context, before V) (V, error)) (V, error) {
	var zero V
	for range 3 {
		e, mine, before := c.entry(k)
		if mine {
			c.fill(ctx, k, e, before, load)
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			return zero, ctx.Err()
		}
		if e.err != nil {
			return zero, e.err
		}
		if c.good(e) {
			return e.value, nil
		}
	}
	return zero, fault.New(fault.Unavailable, "this is changing just now")
}

// has reports whether there is a copy for k, of any age, or one is being read: to ask once more costs nothing, or one read
// for everybody who asks.
func (c *cache[K, V]) has(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.entries[k]
	return ok
}

// peek returns the copy for k, of any age, without reading.
func (c *cache[K, V]) peek(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok || !e.loaded || e.err != nil {
		return v, false
	}
	return e.value, true
}

// entry finds the entry for k, or makes one that the caller must fill, with the one that it replaces.
func (c *cache[K, V]) entry(k K) (e *entry[V], mine bool, before *entry[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[k]; ok {
		if !e.loaded || c.fresh(e) {
			return e, false, nil
		}
		before = e
	}
	e = &entry[V]{ready: make(chan struct{}), read: c.now()}
	c.entries[k] = e
	return e, true, before
}

// fresh reports whether a copy need not be read again now.
func (c *cache[K, V]) fresh(e *entry[V]) bool {
	now := c.now()
	age := now.Sub(e.read)
	switch c.trust() {
	case behind:
		return age < currentFor
	case away:
		return true
	default:
		return age < c.ttl || now.Before(e.again)
	}
}

// evictAmong is how many copies are looked at for one to remove: of so many, picked at random, the one read longest ago is nearly
// always somebody's who is not at work, for those are read every ttl.
const evictAmong = 8

// evict makes room for a copy that was read; mu is held. What is only being read takes no place of a copy's: while the store is away
// anybody could push out with made-up references those who could not come back.
func (c *cache[K, V]) evict() {
	if len(c.entries) <= c.max {
		return
	}
	var oldest K
	var at *entry[V]
	seen := 0
	for k, e := range c.entries {
		if !e.loaded {
			continue
		}
		if at == nil || e.read.Before(at.read) {
			oldest, at = k, e
		}
		if seen++; seen == evictAmong {
			break
		}
	}
	if at != nil {
		delete(c.entries, oldest)
	}
}

// fill reads. The reader's own request may end meanwhile; those who wait with it must not suffer for that. Where there is a copy
// that may stand in for a store which does not answer, or the store is known not to, nobody waits for long.
func (c *cache[K, V]) fill(ctx context.Context, k K, e *entry[V], before *entry[V], load func(context.Context, V) (V, error)) {
	wait, trusted := storeWait, c.trust()
	if trusted == away || before != nil && trusted == current {
		wait = shortWait
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	var old V
	if before != nil {
		old = before.value
	}
	value, err := load(ctx, old)
	c.mu.Lock()
	defer c.mu.Unlock()
	if before != nil && !e.stale && fault.Is(err, fault.Unavailable) && trusted == current {
		// The log was read a moment ago: what it did not name is as it was.
		value, err, e.read, e.again = old, nil, before.read, c.now().Add(againAfter)
	}
	e.value, e.err, e.loaded = value, err, true
	switch {
	case c.entries[k] != e:
	case err != nil || e.stale:
		delete(c.entries, k)
	default:
		c.evict()
	}
	close(e.ready)
}

func (c *cache[K, V]) good(e *entry[V]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !e.stale
}

// all returns the copies that there are.
func (c *cache[K, V]) all() []V {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]V, 0, len(c.entries))
	for _, e := range c.entries {
		if e.loaded && e.err == nil && !e.stale {
			out = append(out, e.value)
		}
	}
	return out
}

// drop forgets every copy that match picks, and whatever is being read under a key that mayMatch picks.
func (c *cache[K, V]) drop(mayMatch func(K) bool, match func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		switch {
		case !mayMatch(k):
		case !e.loaded:
			e.stale = true
		case match(e.value):
			delete(c.entries, k)
		}
	}
}

// forget drops one copy if it is still the one the cache holds.
func (c *cache[K, V]) forget(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[k]; ok && e.loaded {
		delete(c.entries, k)
	}
}
