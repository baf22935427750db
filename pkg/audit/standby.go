package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// Spool keeps records on this edge's own disk while the Store is away.
type Spool interface {
	// Append is Store.Append, as durable, but for the numbers: those of decisions are below 0 and count within the spool, and an
	// outcome names its decision by either kind. fault.Unavailable: the spool is full, or its disk fails.
	Append(ctx context.Context, decisions []Decision, outcomes []Outcome) ([]int64, error)
	// AppendUnsettled is Append for decisions that may be in the Store already, by a commit that was not answered: before they are merged
	// Merger.Took says whether they are.
	AppendUnsettled(ctx context.Context, commit string, decisions []Decision, outcomes []Outcome) ([]int64, error)
	// Merge moves what waits to where it belongs, each tenant's decisions in order and each of them once, however often it is
	// broken off, also by the end of the process. It moves a part at a time and reports whether more waits.
	Merge(ctx context.Context, store Store, once Merger) (more bool, err error)
	// Room returns why no more decisions of a tenant are to be put in: it has its share of the room.
	Room(tenant id.Tenant) error
	// Held returns how many records wait, and how many may.
	Held() (waiting, limit int64)
}

const (
	// standbySlow is how long the store may take for a commit before records go to the spool.
	standbySlow = 2 * time.Second
	// standbyEvery is how often a store that is away is tried, and what lies in the spool.
	standbyEvery = 500 * time.Millisecond
	// mergeLimit bounds moving one part; the last one of a process has endLimit.
	mergeLimit = 20 * time.Second
	endLimit   = 2 * time.Second
	// maxLate bounds the outcomes that wait in memory.
	maxLate = 4096
)

// Standby is a Store whose records are durable in a Spool while it is away or slow, and come to it when it is back. What was
// recorded after that may have been given lower numbers: the times tell the order. It is safe for concurrent use.
type Standby struct {
	Store
	once   Merger
	spool  Spool
	logger *zap.Logger

	away    atomic.Bool
	alarmed atomic.Bool
	waiting prometheus.Gauge
	isAway  prometheus.Gauge
	spooled prometheus.Counter
	merged  *prometheus.CounterVec
	crowded rate.Sometimes

	concluding sync.Mutex // guards late
	// late are outcomes that the spool did not take while the store took everything else.
	late []Outcome
}

var _ Store = (*Standby)(nil)

// NewStandby returns a Standby that moves records back while Run runs.
func NewStandby(store Store, once Merger, spool Spool, metrics *metric.Registry, logger *zap.Logger) *Standby {
	return &Standby{
		Store: store, once: once, spool: spool, logger: logger, crowded: rate.Sometimes{Interval: time.Minute},
		waiting: metrics.Gauge("sallyport_audit_spool_records", "Records that wait on this edge's disk for the database.").WithLabelValues(),
		isAway:  metrics.Gauge("sallyport_audit_store_away", "1 while records go to the spool, because the database is away or slow.").WithLabelValues(),
		spooled: metrics.Counter("sallyport_audit_spooled_total", "Records that went to the spool.").WithLabelValues(),
		merged:  metrics.Counter("sallyport_audit_merges_total", "Parts of the spool that were moved to the database, by how that went.", "result"),
	}
}

// Away reports whether records go to the spool.
func (s *Standby) Away() bool { return s.away.Load() }

// Room returns why a decision of a tenant is refused although others' are taken: while the store is away none may take the room of all.
func (s *Standby) Room(tenant id.Tenant) error {
	if !s.away.Load() {
		return nil
	}
	err := s.spool.Room(tenant)
	if err != nil {
		s.crowded.Do(func() {
			s.logger.Error("a clinic has its share of the spool: its requests are refused until the database is back", log.Tenant(tenant), zap.Error(err))
		})
	}
	return err
}

// Append stores in the Store, or in the spool; numbers below 0 are the spool's. What a commit held that was not answered goes to the
// spool with the commit's name, so that those who wait need not be refused and nothing is on record twice.
func (s *Standby) Append(ctx context.Context, decisions []Decision, outcomes []Outcome) ([]int64, error) {
	theirs, ours := apart(outcomes)
	if err := s.conclude(ctx, ours); err != nil {
		return nil, err
	}
	if !s.away.Load() {
		if len(decisions) == 0 && len(theirs) == 0 {
			return nil, nil
		}
		numbers, err := s.direct(ctx, decisions, theirs)
		switch {
		case err == nil:
			return numbers, nil
		case !fault.Is(err, fault.Unavailable) && !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		}
		s.leave(err)
		if commit, open := unsettled(err); open {
			return s.keepUnsettled(ctx, commit, decisions, theirs, err)
		}
	}
	var numbers []int64
	err := s.keep(ctx, decisions, theirs, &numbers)
	return numbers, err
}

func (s *Standby) direct(ctx context.Context, decisions []Decision, outcomes []Outcome) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, standbySlow)
	defer cancel()
	return s.Store.Append(ctx, decisions, outcomes)
}

// unsettled reports whether what failed with err may have taken place, and by which commit; that has no name where nobody can say.
func unsettled(err error) (commit string, open bool) {
	var u interface{ Unsettled() (commit string) }
	if !errors.As(err, &u) {
		return "", false
	}
	return u.Unsettled(), true
}

func (s *Standby) keepUnsettled(ctx context.Context, commit string, decisions []Decision, outcomes []Outcome, why error) ([]int64, error) {
	if commit == "" {
		return nil, why // it could be on record twice
	}
	numbers, err := s.spool.AppendUnsettled(ctx, commit, decisions, outcomes)
	if err != nil {
		return nil, err
	}
	s.kept(len(decisions) + len(outcomes))
	return numbers, nil
}

// apart separates the outcomes of decisions that have a number of the store's from those that have one of the spool's.
func apart(outcomes []Outcome) (store, spool []Outcome) {
	for _, o := range outcomes {
		if o.Sequence < 0 {
			spool = append(spool, o)
		} else {
			store = append(store, o)
		}
	}
	return store, spool
}

// conclude puts outcomes of decisions that were spooled where those are. If its disk is full while the store is there, they wait in
// memory: else they would have every decision refused that the store could take.
func (s *Standby) conclude(ctx context.Context, outcomes []Outcome) error {
	s.concluding.Lock()
	defer s.concluding.Unlock()
	all := append(slices.Clip(s.late), outcomes...)
	if len(all) == 0 {
		return nil
	}
	err := s.keep(ctx, nil, all, nil)
	switch {
	case err == nil:
		s.late = nil
		return nil
	case s.away.Load() || len(all) > maxLate:
		return err
	case len(s.late) == 0:
		s.logger.Error("outcomes of decisions in the spool wait in memory: its disk does not take them", zap.Error(err))
	}
	s.late = all
	return nil
}

// keep puts records in the spool.
func (s *Standby) keep(ctx context.Context, decisions []Decision, outcomes []Outcome, numbers *[]int64) error {
	got, err := s.spool.Append(ctx, decisions, outcomes)
	if err != nil {
		return err
	}
	if numbers != nil {
		*numbers = got
	}
	s.kept(len(decisions) + len(outcomes))
	return nil
}

func (s *Standby) kept(n int) {
	s.spooled.Add(float64(n))
	s.measure()
}

// alarmAt is how full the spool is when the operator is told, in percent.
const alarmAt = 80

func (s *Standby) measure() {
	waiting, limit := s.spool.Held()
	s.waiting.Set(float64(waiting))
	high := waiting*100 >= limit*alarmAt
	if high && s.alarmed.CompareAndSwap(false, true) {
		s.logger.Error("the spool is nearly full: when it is, every request is refused until the database is back",
			zap.Int64("records", waiting), zap.Int64("limit", limit))
	} else if !high {
		s.alarmed.Store(false)
	}
}

func (s *Standby) leave(err error) {
	if s.away.CompareAndSwap(false, true) {
		s.isAway.Set(1)
		s.logger.Error("records go to the spool on this edge's disk: the database does not take them in time", zap.Error(err))
	}
}

func (s *Standby) back() {
	if s.away.CompareAndSwap(true, false) {
		s.isAway.Set(0)
		s.logger.Info("the database takes records again")
	}
}

// Run moves records from the spool to the store until ctx ends, and once more then. It must end after the recorder.
func (s *Standby) Run(ctx context.Context) error {
	tick := time.NewTicker(standbyEvery)
	defer tick.Stop()
	failing := false
	for {
		more, err := s.merge(ctx, mergeLimit)
		if err != nil && !failing && !s.away.Load() {
			s.logger.Error("what lies in the spool cannot be moved to the database", zap.Error(err))
		}
		if failing = err != nil; more && !failing && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			s.end()
			return nil
		case <-tick.C:
		}
	}
}

// end moves what it can in a short time; the rest is for the next process.
func (s *Standby) end() {
	for more := true; more; {
		var err error
		if more, err = s.merge(context.Background(), endLimit); err != nil {
			break
		}
	}
	s.concluding.Lock()
	defer s.concluding.Unlock()
	if len(s.late) > 0 {
		s.logger.Error("outcomes of requests were lost: the disk of the spool did not take them", zap.Int("lost", len(s.late)))
	}
	if waiting, _ := s.spool.Held(); waiting > 0 {
		s.logger.Warn("records stay in the spool on this edge's disk until an edge starts in this state directory", zap.Int64("records", waiting))
	}
}

// merge finds out whether the store is back, and moves one part. That something in the spool cannot be moved is no reason to
// leave the store alone.
func (s *Standby) merge(ctx context.Context, limit time.Duration) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.away.Load() {
		began := time.Now()
		if _, err := s.Store.Append(ctx, nil, nil); err != nil {
			return false, err
		}
		if time.Since(began) < standbySlow {
			s.back()
		}
	}
	_ = s.conclude(ctx, nil) // it has told when they began to wait
	waiting, _ := s.spool.Held()
	more, err = s.spool.Merge(ctx, s.Store, s.once)
	switch {
	case err != nil:
		s.merged.WithLabelValues("failed").Inc()
	case waiting > 0:
		s.merged.WithLabelValues("done").Inc()
	}
	s.measure()
	return more, err
}
