package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// tape is an audit store in memory whose commits take a time and can fail or hang.
type tape struct {
	audit.Store
	mu        sync.Mutex
	takes     time.Duration
	fail      error
	decisions []audit.Decision
	outcomes  []audit.Outcome
	batches   []int
}

func (s *tape) Append(ctx context.Context, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	s.mu.Lock()
	takes, fail := s.takes, s.fail
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fail != nil {
		return nil, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var sequences []int64
	for _, d := range decisions {
		s.decisions = append(s.decisions, d)
		sequences = append(sequences, int64(len(s.decisions)))
	}
	s.outcomes = append(s.outcomes, outcomes...)
	s.batches = append(s.batches, len(decisions))
	return sequences, nil
}

func (s *tape) set(takes time.Duration, fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.fail = takes, fail
}

func (s *tape) counts() (decisions, outcomes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.decisions), len(s.outcomes)
}

var decision = audit.Decision{Tenant: "maple", Path: "/oscar/"}

// running starts a recorder in the bubble; end stops it and waits.
func running(t *testing.T, s *tape, cfg audit.RecorderConfig) (r *audit.Recorder, end func()) {
	t.Helper()
	r = audit.NewRecorder(s, cfg, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func metricsText(t *testing.T, m *metric.Registry) string {
	t.Helper()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		for _, one := range f.Metric {
			if one.Counter != nil {
				fmt.Fprintf(&text, "%s %v\n", f.GetName(), one.Counter.GetValue())
			}
		}
	}
	return text.String()
}

func TestDecideAloneCostsOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: 2 * time.Millisecond}
		r, end := running(t, s, audit.RecorderConfig{})
		start := time.Now()
		sequence, err := r.Decide(t.Context(), decision)
		if err != nil || sequence != 1 {
			t.Fatalf("Decide = %d, %v", sequence, err)
		}
		if took := time.Since(start); took != s.takes {
			t.Errorf("took %v; a commit takes %v and nothing else should", took, s.takes)
		}
		end()
	})
}

func TestDecisionsThatWaitShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: 10 * time.Millisecond}
		r, end := running(t, s, audit.RecorderConfig{})
		const n = 600
		var got [n + 1]bool
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				sequence, err := r.Decide(t.Context(), decision)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if got[sequence] {
					t.Error("sequence given twice:", sequence)
				}
				got[sequence] = true
			})
		}
		wg.Wait()
		for _, size := range s.batches {
			if size > 256 {
				t.Errorf("a batch of %d", size)
			}
		}
		if len(s.batches) > 5 {
			t.Errorf("%d commits for %d decisions that came together: %v", len(s.batches), n, s.batches)
		}
		end()
	})
}

// The heart of it: when the store fails every caller hears so, and when it works again nobody has to do anything.
func TestFailingStoreRefusesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metric.New()
		s := &tape{fail: fault.New(fault.Unavailable, "the disk of the edge's store is full")}
		r, end := running(t, s, audit.RecorderConfig{Metrics: m})
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: 1})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) {
					t.Errorf("Decide = %v, want %s", err, fault.Unavailable)
				}
			})
		}
		wg.Wait()
		s.set(0, nil)
		if _, err := r.Decide(t.Context(), decision); err != nil {
			t.Error("after the disk had room again:", err)
		}
		if _, outcomes := s.counts(); outcomes != 1 {
			t.Errorf("%d outcomes kept over the failure, want 1", outcomes)
		}
		if text := metricsText(t, m); !strings.Contains(text, "refused_decisions_total 50\n") ||
			!strings.Contains(text, "lost_outcomes_total 0\n") {
			t.Error("metrics:", text)
		}
		end()
	})
}

func TestDecideEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: time.Second}
		r, end := running(t, s, audit.RecorderConfig{})
		go func() { _, _ = r.Decide(t.Context(), decision) }() // holds the recorder
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := r.Decide(ctx, decision); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Decide = %v", err)
		}
		end()
		if decisions, _ := s.counts(); decisions != 1 {
			t.Errorf("%d decisions on record; the one whose caller left before its turn should not be", decisions)
		}
	})
}

func TestDecideIsBoundedWhenTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: time.Hour}
		r, end := running(t, s, audit.RecorderConfig{Queue: 1, DecideLimit: time.Second})
		start := time.Now()
		var wg sync.WaitGroup
		for range 8 { // more than the queue holds
			wg.Go(func() {
				if _, err := r.Decide(context.WithoutCancel(t.Context()), decision); !fault.Is(err, fault.Unavailable) {
					t.Errorf("Decide = %v", err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("callers waited %v, want 1s at most", waited)
		}
		end()
	})
}

func TestConcludeNeedsNoDecisionToBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{}
		r, end := running(t, s, audit.RecorderConfig{})
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: 1})
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: 2})
		<-time.After(250 * time.Millisecond) // fake time
		synctest.Wait()
		if _, outcomes := s.counts(); outcomes != 2 || len(s.batches) != 1 {
			t.Errorf("%d outcomes in %d commits, want 2 in 1", outcomes, len(s.batches))
		}
		end()
	})
}

func TestOutcomesAreLostOnlyAfterABoundedWaitAndAloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metric.New()
		s := &tape{fail: errors.New("no disk")}
		r, end := running(t, s, audit.RecorderConfig{Queue: 4, Batch: 4, Metrics: m})
		start := time.Now()
		for i := range 10 { // 4 in the recorder's hand, 4 in the queue
			r.Conclude(audit.Outcome{Tenant: "maple", Sequence: int64(i)})
			synctest.Wait()
		}
		if waited := time.Since(start); waited != 200*time.Millisecond {
			t.Errorf("two outcomes without room waited %v, want 100ms each", waited)
		}
		if text := metricsText(t, m); !strings.Contains(text, "lost_outcomes_total 2\n") {
			t.Error("metrics:", text)
		}
		s.set(0, nil)
		end()
		if _, outcomes := s.counts(); outcomes != 8 {
			t.Errorf("%d outcomes on record, want the 8 that found room", outcomes)
		}
	})
}

func TestCloseFlushesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: 20 * time.Millisecond}
		r, end := running(t, s, audit.RecorderConfig{Batch: 8})
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := r.Decide(t.Context(), decision); err != nil {
					t.Error("let in, then refused:", err)
				}
			})
		}
		for i := range 30 {
			r.Conclude(audit.Outcome{Tenant: "maple", Sequence: int64(i)})
		}
		synctest.Wait()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if decisions, outcomes := s.counts(); decisions != 30 || outcomes != 30 {
			t.Errorf("%d decisions and %d outcomes on record, want 30 and 30", decisions, outcomes)
		}
		if _, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Decide after Close = %v", err)
		}
		end()
	})
}

func TestCloseOnABrokenStoreIsBoundedAndCountsTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metric.New()
		s := &tape{fail: errors.New("no disk")}
		r, end := running(t, s, audit.RecorderConfig{Metrics: m})
		for i := range 300 {
			r.Conclude(audit.Outcome{Tenant: "maple", Sequence: int64(i)})
		}
		start := time.Now()
		end()
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("ending took %v", took)
		}
		if text := metricsText(t, m); !strings.Contains(text, "lost_outcomes_total 300\n") {
			t.Error("metrics:", text)
		}
	})
}

func TestDecideWithoutTenant(t *testing.T) {
	r := audit.NewRecorder(&tape{}, audit.RecorderConfig{}, zap.NewNop())
	if _, err := r.Decide(t.Context(), audit.Decision{}); !fault.Is(err, fault.Invalid) {
		t.Fatalf("Decide = %v", err)
	}
}

// A busy recorder waits a moment for more to share a commit with, one that has become quiet does not.
func TestDecisionsWaitForCompanyWhileManyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{takes: 5 * time.Millisecond}
		r, end := running(t, s, audit.RecorderConfig{Company: 2 * time.Millisecond})
		defer end()
		var all sync.WaitGroup
		decide := func(after time.Duration) {
			all.Go(func() {
				<-time.After(after)
				if _, err := r.Decide(t.Context(), decision); err != nil {
					t.Error(err)
				}
			})
		}
		decide(0)
		for range 20 {
			decide(time.Millisecond) // while the first one is committed
		}
		decide(6 * time.Millisecond) // while those are
		decide(10*time.Millisecond + 500*time.Microsecond)
		all.Wait()
		start := time.Now()
		decide(0)
		all.Wait()
		if took := time.Since(start); took != 5*time.Millisecond {
			t.Errorf("a decision alone took %v", took)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := fmt.Sprint(s.batches); got != "[1 20 2 1]" {
			t.Errorf("commits of %s decisions", got)
		}
	})
}
