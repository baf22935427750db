package audit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// RecorderConfig bounds a Recorder. The zero value is the default of each field.
type RecorderConfig struct {
	// Queue is how many decisions, and how many outcomes, may wait (4096).
	Queue int
	// Batch is how many of each go in one commit at most (256).
	Batch int
	// DecideLimit bounds Decide whatever its context says (10 s): a disk that hangs must not hold every request for ever.
	DecideLimit time.Duration
	// ConcludeLimit bounds Conclude when the queue is full (100 ms).
	ConcludeLimit time.Duration
	// Linger is how long outcomes wait for a decision to be committed with (250 ms).
	Linger time.Duration
	// Company bounds how long a decision waits for others to be committed with while many come (5 ms): of what a commit costs,
	// most is the same for one as for fifty. While few come, none waits.
	Company time.Duration
	// FlushLimit bounds the last commits when the recorder ends (3 s).
	FlushLimit time.Duration
	// Metrics receives the recorder's metrics; nil keeps them to itself.
	Metrics *metric.Registry
}

func (c RecorderConfig) withDefaults() RecorderConfig {
	orDefault(&c.Queue, 4096)
	orDefault(&c.Batch, 256)
	orDefault(&c.DecideLimit, 10*time.Second)
	orDefault(&c.ConcludeLimit, 100*time.Millisecond)
	orDefault(&c.Linger, 250*time.Millisecond)
	orDefault(&c.Company, 5*time.Millisecond)
	orDefault(&c.FlushLimit, 3*time.Second)
	if c.Metrics == nil {
		c.Metrics = metric.New()
	}
	return c
}

func orDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Recorder is the one writer of records. Decisions that wait at the same time share a commit: whatever came while one
// commit was under way goes into the next, so an idle recorder adds no delay and a busy one does not sync for each. When many
// came with the last commit, the next one waits a moment for more.
//
// When the store cannot take a batch, every decision in it is refused and the next batch tries anew: nothing has to be
// reset when the disk has room again. Outcomes are kept and tried again as long as the queue has room.
type Recorder struct {
	store  Store
	cfg    RecorderConfig
	logger *zap.Logger
	meters meters

	decisions chan *entry
	outcomes  chan Outcome

	// gate makes ending exact: what got into a queue before closed was set is flushed, nothing gets in after.
	gate    sync.RWMutex
	closed  bool
	closing chan struct{} // ends the waits of those who hold the gate
	begun   atomic.Bool
	once    sync.Once
	ended   chan struct{}

	lost     atomic.Int64
	complain rate.Sometimes
}

// entry is one decision on its way; Run's goroutine answers each exactly once, or finds it abandoned.
type entry struct {
	decision Decision
	taken    atomic.Bool // by the recorder, or by a caller who gave up
	done     chan answer
}

type answer struct {
	sequence int64
	err      error
}

// NewRecorder returns a recorder that works while Run runs.
func NewRecorder(store Store, cfg RecorderConfig, logger *zap.Logger) *Recorder {
	cfg = cfg.withDefaults()
	return &Recorder{
		store: store, cfg: cfg, logger: logger, meters: newMeters(cfg.Metrics),
		decisions: make(chan *entry, cfg.Queue), outcomes: make(chan Outcome, cfg.Queue),
		closing: make(chan struct{}), ended: make(chan struct{}),
		complain: rate.Sometimes{Interval: time.Second},
	}
}

// sharing is a Store with so little room that it is shared out: it is asked before a decision goes with those of others, which would be
// refused with it.
type sharing interface {
	Room(tenant id.Tenant) error
}

var _ sharing = (*Standby)(nil)

// Decide records d and returns its sequence number when it is durable. On any error the caller must refuse the request:
// fault.Unavailable when the record cannot be kept, ctx's error when ctx ended first. A decision whose caller gave up may
// be on record nevertheless; no outcome follows it.
func (r *Recorder) Decide(ctx context.Context, d Decision) (int64, error) {
	if d.Tenant == "" {
		return 0, fault.New(fault.Invalid, "a decision without a tenant cannot be recorded")
	}
	if shared, ok := r.store.(sharing); ok {
		if err := shared.Room(d.Tenant); err != nil {
			r.meters.refused.Inc()
			return 0, refusal(err)
		}
	}
	timer := time.NewTimer(r.cfg.DecideLimit)
	defer timer.Stop()
	e := &entry{decision: d, done: make(chan answer, 1)}
	if err := r.enqueue(ctx, e, timer.C); err != nil {
		return 0, err
	}
	select {
	case a := <-e.done:
		return a.sequence, a.err
	case <-ctx.Done():
		e.taken.Store(true)
		return 0, ctx.Err()
	case <-timer.C:
		e.taken.Store(true)
		return 0, refusal(errors.New("audit: the store does not answer"))
	}
}

func (r *Recorder) enqueue(ctx context.Context, e *entry, limit <-chan time.Time) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed {
		return refusal(errors.New("audit: the recorder has ended"))
	}
	select {
	case r.decisions <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-limit:
		return refusal(errors.New("audit: the queue is full"))
	case <-r.closing:
		return refusal(errors.New("audit: the recorder ends"))
	}
}

func refusal(cause error) error {
	return fault.New(fault.Unavailable, "this request cannot be recorded now, so it is refused").Because(cause)
}

// Conclude queues o; it is durable with the next commit. It waits only when the queue is full, and not for long; an outcome
// that found no room is counted and logged. After the recorder ended every outcome is lost.
func (r *Recorder) Conclude(o Outcome) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed {
		r.lose(1)
		return
	}
	select {
	case r.outcomes <- o:
		return
	default:
	}
	timer := time.NewTimer(r.cfg.ConcludeLimit)
	defer timer.Stop()
	select {
	case r.outcomes <- o:
	case <-timer.C:
		r.lose(1)
	case <-r.closing:
		r.lose(1)
	}
}

// lose counts outcomes that will never be on record, and says so at most once a second.
func (r *Recorder) lose(n int) {
	total := r.lost.Add(int64(n))
	r.meters.lost.Add(float64(n))
	r.complain.Do(func() {
		r.logger.Error("outcomes of requests were lost: the record of what was decided is whole, that of what followed is not",
			zap.Int64("lost_since_start", total))
	})
}

// Close lets nothing more in, waits until Run has flushed, and returns; ctx bounds the wait. Ending Run's context does the
// same.
func (r *Recorder) Close(ctx context.Context) error {
	r.shut()
	if !r.begun.Load() {
		return nil
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Recorder) shut() {
	r.once.Do(func() {
		// First the waits end, then the gate can be had.
		close(r.closing)
		r.gate.Lock()
		r.closed = true
		r.gate.Unlock()
	})
}
