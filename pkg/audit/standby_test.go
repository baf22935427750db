package audit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// reel is a spool in memory.
type reel struct {
	mu        sync.Mutex
	limit     int64
	share     int  // of one clinic; 0: all
	full      bool // its disk takes nothing, outcomes neither
	next      int64
	decisions []audit.Decision
	outcomes  []audit.Outcome
	commits   []string
}

func (s *reel) AppendUnsettled(
	ctx context.Context, commit string, decisions []audit.Decision, outcomes []audit.Outcome,
) ([]int64, error) {
	numbers, err := s.Append(ctx, decisions, outcomes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits = append(s.commits, commit)
	return numbers, err
}

func (s *reel) Append(_ context.Context, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full || int64(len(s.decisions)+len(decisions)) > s.limit {
		return nil, fault.New(fault.Unavailable, "full")
	}
	var numbers []int64
	for _, d := range decisions {
		s.next--
		s.decisions = append(s.decisions, d)
		numbers = append(numbers, s.next)
	}
	s.outcomes = append(s.outcomes, outcomes...)
	return numbers, nil
}

func (s *reel) Merge(ctx context.Context, into audit.Store, _ audit.Merger) (bool, error) {
	s.mu.Lock()
	decisions, outcomes := s.decisions, s.outcomes
	s.mu.Unlock()
	if len(decisions)+len(outcomes) == 0 {
		return false, nil
	}
	if s.isFull() {
		return false, fault.New(fault.Unavailable, "full")
	}
	if _, err := into.Append(ctx, decisions, nil); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decisions, s.outcomes = s.decisions[len(decisions):], s.outcomes[len(outcomes):]
	return false, nil
}

func (s *reel) isFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

func (s *reel) fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// Room implements audit.Spool.
func (s *reel) Room(tenant id.Tenant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := 0
	for _, d := range s.decisions {
		if d.Tenant == tenant {
			has++
		}
	}
	if s.share > 0 && has >= s.share {
		return fault.New(fault.Exhausted, "its share")
	}
	return nil
}

func (s *reel) Held() (int64, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.decisions) + len(s.outcomes)), s.limit
}

// standing runs a recorder over a standby in the bubble.
func standing(t *testing.T, s *tape, spool *reel) (r *audit.Recorder, standby *audit.Standby, logs *observer.ObservedLogs, end func()) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	standby = audit.NewStandby(s, nil, spool, metric.New(), zap.New(core))
	r = audit.NewRecorder(standby, audit.RecorderConfig{}, zap.New(core))
	moving, stopMoving := context.WithCancel(t.Context())
	recording, stopRecording := context.WithCancel(t.Context())
	moved, recorded := make(chan error, 1), make(chan error, 1)
	go func() { moved <- standby.Run(moving) }()
	go func() { recorded <- r.Run(recording) }()
	return r, standby, logs, func() {
		t.Helper()
		stopRecording()
		if err := <-recorded; err != nil {
			t.Error(err)
		}
		stopMoving()
		if err := <-moved; err != nil {
			t.Error(err)
		}
	}
}

var errGone = fault.New(fault.Unavailable, "the store cannot be reached")

// The store goes away and comes back: decisions go on with numbers of the spool, outcomes follow their decisions, and what waited
// is moved.
func TestStandbyWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{takes: time.Millisecond}, &reel{limit: 100}
		r, standby, logs, end := standing(t, s, spool)
		decide := func() int64 {
			t.Helper()
			n, err := r.Decide(t.Context(), decision)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		first := decide()
		s.set(0, errGone)
		if a, b := decide(), decide(); first != 1 || a != -1 || b != -2 || !standby.Away() {
			t.Errorf("numbers %d, %d, %d; away %t", first, a, b, standby.Away())
		}
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: 1})
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: -1})
		<-time.After(time.Minute)
		if waiting, _ := spool.Held(); waiting != 4 {
			t.Errorf("%d records wait, want two decisions and two outcomes", waiting)
		}
		s.set(time.Millisecond, nil)
		<-time.After(time.Second)
		if got := decide(); got != 4 || standby.Away() {
			t.Errorf("back: number %d, away %t", got, standby.Away())
		}
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: -2})
		<-time.After(time.Second)
		if waiting, _ := spool.Held(); waiting != 0 {
			t.Errorf("%d records wait after the store is back", waiting)
		}
		end()
		for _, words := range []string{"records go to the spool", "the database takes records again"} {
			if n := logs.FilterMessageSnippet(words).Len(); n != 1 {
				t.Errorf("%q was said %d times", words, n)
			}
		}
		if n := logs.FilterMessageSnippet("requests are refused").Len(); n != 0 {
			t.Error("the log says that requests are refused")
		}
	})
}

// A clinic that has its share of the spool is refused, and that is said; others are not, and neither is it when the store is back.
func TestOneClinicDoesNotFillTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{takes: time.Millisecond}, &reel{limit: 100, share: 3}
		r, _, logs, end := standing(t, s, spool)
		s.set(0, errGone)
		other := decision
		other.Tenant = "birch"
		decide := func(d audit.Decision) error {
			_, err := r.Decide(t.Context(), d)
			return err
		}
		for range 3 {
			if err := decide(decision); err != nil {
				t.Fatal(err)
			}
		}
		if err := decide(decision); !fault.Is(err, fault.Unavailable) {
			t.Errorf("more than its share: %v", err)
		}
		if err := decide(other); err != nil {
			t.Errorf("another clinic: %v", err)
		}
		s.set(time.Millisecond, nil)
		<-time.After(time.Second)
		if err := decide(decision); err != nil {
			t.Errorf("the store is back: %v", err)
		}
		end()
		if n := logs.FilterMessageSnippet("a clinic has its share").Len(); n != 1 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// The store comes back while the spool's disk is full: decisions go on, although outcomes of those in the spool have nowhere to go;
// they are there when there is room.
func TestStandbyWhileTheSpoolsDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{takes: time.Millisecond}, &reel{limit: 100, share: 3}
		r, _, logs, end := standing(t, s, spool)
		s.set(0, errGone)
		if n, err := r.Decide(t.Context(), decision); n != -1 || err != nil {
			t.Fatal(n, err)
		}
		spool.fill(true)
		r.Conclude(audit.Outcome{Tenant: "maple", Sequence: -1})
		if n, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) {
			t.Errorf("neither takes it: %d, %v", n, err)
		}
		s.set(time.Millisecond, nil)
		<-time.After(2 * time.Second)
		for range 3 {
			if n, err := r.Decide(t.Context(), decision); n <= 0 || err != nil {
				t.Errorf("the store is back: %d, %v", n, err)
			}
		}
		if waiting, _ := spool.Held(); waiting != 1 {
			t.Errorf("%d records wait in the spool", waiting)
		}
		spool.fill(false)
		<-time.After(2 * time.Second)
		if waiting, _ := spool.Held(); waiting != 0 {
			t.Errorf("%d records wait with room", waiting)
		}
		end()
		if n := logs.FilterMessageSnippet("wait in memory").Len(); n != 1 {
			t.Errorf("that outcomes wait was said %d times", n)
		}
		if n := logs.FilterMessageSnippet("outcomes of requests were lost").Len(); n != 0 {
			t.Errorf("outcomes were lost")
		}
	})
}

// A store that hangs holds a request up for 2 s once, and no longer.
func TestStandbyWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{takes: time.Hour}, &reel{limit: 100}
		r, _, _, end := standing(t, s, spool)
		for i, limit := range []time.Duration{2 * time.Second, time.Millisecond, time.Millisecond} {
			began := time.Now()
			if n, err := r.Decide(t.Context(), decision); err != nil || n != -int64(i+1) || time.Since(began) > limit {
				t.Errorf("decision %d: %d, %v, after %v", i, n, err, time.Since(began))
			}
		}
		s.set(0, nil)
		<-time.After(time.Minute)
		if n, err := r.Decide(t.Context(), decision); err != nil || n < 1 {
			t.Errorf("back: %d, %v", n, err)
		}
		end()
	})
}

// openEnded is a commit that may have taken place, and its name, if it has one.
type openEnded string

func (openEnded) Error() string       { return "not answered" }
func (o openEnded) Unsettled() string { return string(o) }

// What may be in the store already goes to the spool with the name of its commit, and nobody is refused.
func TestStandbyKeepsWhatIsUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{}, &reel{limit: 5}
		r, standby, logs, end := standing(t, s, spool)
		s.set(0, errGone.Because(openEnded("commit-1")))
		if n, err := r.Decide(t.Context(), decision); n != -1 || err != nil || !standby.Away() || len(spool.commits) != 1 || spool.commits[0] != "commit-1" {
			t.Errorf("a commit that was not answered: %d, %v, away %t, %v", n, err, standby.Away(), spool.commits)
		}
		if n, err := r.Decide(t.Context(), decision); n != -2 || err != nil || len(spool.commits) != 1 {
			t.Errorf("after it: %d, %v, %v", n, err, spool.commits)
		}
		s.set(0, nil)
		end()
		if n := logs.FilterMessageSnippet("requests are refused").Len(); n != 0 {
			t.Error("the log says that requests are refused")
		}
	})
}

// What may be in the store already, and nothing can tell, does not go to the spool too: those requests are refused. A failure that is ours is no reason
// for the spool either, and a full one refuses, after it was said.
func TestStandbyRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spool := &tape{}, &reel{limit: 5}
		r, standby, logs, end := standing(t, s, spool)
		s.set(0, errors.New("a fault of ours"))
		if n, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) || standby.Away() {
			t.Errorf("a fault of ours: %d, %v, away %t", n, err, standby.Away())
		}
		s.set(0, errGone.Because(openEnded("")))
		if n, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) || !standby.Away() {
			t.Errorf("a commit that was not answered: %d, %v", n, err)
		}
		for i := range 5 {
			if n := logs.FilterMessageSnippet("nearly full").Len(); n != i/4 {
				t.Errorf("with %d of 5, alarmed %d times", i, n)
			}
			if n, err := r.Decide(t.Context(), decision); err != nil || n != -int64(i+1) {
				t.Errorf("decision %d: %d, %v", i, n, err)
			}
		}
		if _, err := r.Decide(t.Context(), decision); !fault.Is(err, fault.Unavailable) {
			t.Errorf("full: %v", err)
		}
		end()
		if decisions, _ := s.counts(); decisions != 0 {
			t.Errorf("%d decisions in a store that is away", decisions)
		}
	})
}
