package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// DefaultInterval is how often a follower looks when nobody kicks it. It is the part of "revocation within 5 s" that a
// lost hint costs.
const DefaultInterval = 500 * time.Millisecond

const (
	// looksAtOnce and looksEach are how many kicks may cause a look at once and each second: hints that come without an end cost no more.
	looksAtOnce, looksEach = 10, 100
	// page is how many changes one read brings.
	page = 1_000
	// callLimit bounds one call of a subscriber and one read of the log: the others wait meanwhile, and they have 5 s.
	callLimit = 2 * time.Second
	// allLimit is what a subscriber has to read everything again. Until it is done copies count as old (Silence), and are not believed.
	allLimit = 30 * time.Second
)

// Follower reads the log on from one version and calls those who keep copies of what is in the store.
//
// Who keeps a copy of a whole table does it in this order, so that nothing falls between: Subscribe, Begin, load, Run. A
// change that comes after Begin is delivered even if the load had it already; so a subscriber must bear being told of what
// it knows. Who fetches single things on demand and only drops them on a change needs no Begin.
//
// Each subscriber sees every change of its kinds, in order, at least once. One that fails is called again with the same
// changes at the next look, and holds up nobody else.
//
// Where the log does not go on from where it was read (a copy of the database that lags was made the primary, a back-up was restored, rows
// were pruned that nobody had read), and after Restart, a subscriber is called with Anything of each of its kinds, and reads all
// again; what was there before may be gone.
type Follower struct {
	log      Log
	interval time.Duration
	logger   *zap.Logger
	kick     chan struct{}

	mu          sync.Mutex // guards what follows; never held during a call
	subscribers []*subscriber
	begun       bool
	moved       chan struct{} // closed and replaced whenever a cursor moves
	restart     bool          // copies are to be read again whatever the log says
	read        time.Time     // when the last look began that read the log to its end; its monotonic clock counts
	failing     bool          // the look after that could not

	newest Change // the last that was read; Run's goroutine only
}

type subscriber struct {
	name    string
	kinds   []Kind
	call    func(ctx context.Context, changes []Change) error
	cursor  int64 // all up to here is delivered; written by Run's goroutine under mu
	all     bool  // it is to read everything again; Run's goroutine only
	failing bool  // Run's goroutine only
}

// NewFollower returns a follower that looks every interval (0: DefaultInterval) and when kicked.
func NewFollower(log Log, interval time.Duration, logger *zap.Logger) *Follower {
	if interval <= 0 {
		interval = DefaultInterval
	}
	return &Follower{log: log, interval: interval, logger: logger, kick: make(chan struct{}, 1), moved: make(chan struct{})}
}

// Subscribe adds a subscriber for some kinds, or for all if kinds is empty. f is called from one goroutine, with a context
// that bounds the call. It panics after Begin or Run: such a subscriber would have missed something.
func (f *Follower) Subscribe(name string, kinds []Kind, call func(ctx context.Context, changes []Change) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		panic("change: Subscribe " + name + " after Begin")
	}
	f.subscribers = append(f.subscribers, &subscriber{name: name, kinds: slices.Clone(kinds), call: call})
}

// Begin fixes the version from which the follower goes on: the present one. A second call changes nothing.
func (f *Follower) Begin(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		return nil
	}
	now := time.Now()
	version, err := f.log.Version(ctx)
	if err != nil {
		return fmt.Errorf("change log: %w", err)
	}
	f.read = now
	for _, s := range f.subscribers {
		s.cursor = version
	}
	f.begun = true
	return nil
}

// Kick makes the follower look now. It returns at once.
func (f *Follower) Kick() {
	select {
	case f.kick <- struct{}{}:
	default: // a look is due already, and it begins after this call
	}
}

// Restart has everything read again at the next look, which is now. It returns at once.
func (f *Follower) Restart() {
	f.mu.Lock()
	f.restart = true
	f.mu.Unlock()
	f.Kick()
}

// Run follows until ctx ends and returns nil then. It begins at the present version unless Begin did.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.Begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	kicks := rate.NewLimiter(looksEach, looksAtOnce)
	for {
		began := time.Now()
		err := f.look(ctx)
		var broken *brokenError
		if errors.As(err, &broken) {
			f.logger.Error("everything that is copied from the store is read again", zap.Error(err))
			f.Restart()
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		f.note(began, err)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-f.kick:
			_ = kicks.Wait(ctx) // its end is seen at the next look
		}
	}
}

// note keeps how a look went, and says so when that changes.
func (f *Follower) note(began time.Time, err error) {
	f.mu.Lock()
	before, silent := f.failing, began.Sub(f.read)
	if f.failing = err != nil; err == nil {
		f.read = began
	}
	f.mu.Unlock()
	switch {
	case err != nil && !before:
		f.logger.Error("change log cannot be read; revocations and new settings wait", zap.Error(err))
	case err == nil && before:
		f.logger.Info("change log can be read again", zap.Duration("silent", silent))
	}
}

// Silence returns how long ago the last look began that read the log to its end, and whether the look after it failed. Whoever
// keeps copies knows by it how old they may be. What the clock is set to has no part in it.
func (f *Follower) Silence() (since time.Duration, failing bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.read), f.failing
}

// Version returns the version up to which every subscriber has been told; 0 before Begin.
func (f *Follower) Version() int64 {
	version, _ := f.state()
	return version
}

// CaughtUp reports whether every subscriber has been told of everything that is in the log now.
func (f *Follower) CaughtUp(ctx context.Context) (bool, error) {
	newest, err := f.log.Version(ctx)
	if err != nil {
		return false, fmt.Errorf("change log: %w", err)
	}
	return f.Version() >= newest, nil
}

// Wait returns when every subscriber has been told of all changes up to version, or with ctx's error.
func (f *Follower) Wait(ctx context.Context, version int64) error {
	f.Kick()
	for {
		at, moved := f.state()
		if at >= version {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// state returns the lowest cursor and a channel that closes when a cursor moves.
func (f *Follower) state() (int64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.subscribers) == 0 {
		return 0, f.moved
	}
	low := f.subscribers[0].cursor
	for _, s := range f.subscribers[1:] {
		low = min(low, s.cursor)
	}
	return low, f.moved
}
