package change_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
)

// memory is a change log in memory.
type memory struct {
	mu     sync.Mutex
	rows   []change.Change
	head   int64
	broken error
}

func (m *memory) add(kind change.Kind, ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range ids {
		m.head++
		m.rows = append(m.rows, change.Change{Version: m.head, Tenant: "maple", Kind: kind, ID: ref})
	}
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

func (m *memory) prune(below int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.rows) > 0 && m.rows[0].Version < below {
		m.rows = m.rows[1:]
	}
}

func (m *memory) Since(_ context.Context, version int64, limit int) ([]change.Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []change.Change
	for _, c := range m.rows {
		if c.Version > version && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, m.broken
}

func (m *memory) Version(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, m.broken
}

// seen collects what a subscriber is told.
type seen struct {
	ids   []string
	fail  error
	tries int
}

func (s *seen) take(_ context.Context, changes []change.Change) error {
	s.tries++
	if s.fail != nil {
		return s.fail
	}
	for _, c := range changes {
		s.ids = append(s.ids, c.ID)
	}
	return nil
}

// follow runs f in the bubble and returns what ends it and gives Run's error.
func follow(t *testing.T, f *change.Follower) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestFollowerToldOfItsKindsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		log.add(change.App, "before")
		var apps, all seen
		f := change.NewFollower(log, 0, zap.NewNop())
		f.Subscribe("apps", []change.Kind{change.App}, apps.take)
		f.Subscribe("all", nil, all.take)
		stop := follow(t, f)
		synctest.Wait()
		log.add(change.App, "a1")
		log.add(change.Session, "s1")
		log.add(change.App, "a2")
		<-time.After(change.DefaultInterval) // fake time
		synctest.Wait()
		if diff := cmp.Diff([]string{"a1", "a2"}, apps.ids); diff != "" {
			t.Error("apps:", diff)
		}
		if diff := cmp.Diff([]string{"a1", "s1", "a2"}, all.ids); diff != "" {
			t.Error("all:", diff)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFollowerKickNeedsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		var all seen
		f := change.NewFollower(log, time.Hour, zap.NewNop())
		f.Subscribe("all", nil, all.take)
		stop := follow(t, f)
		synctest.Wait()
		start := time.Now()
		log.add(change.Session, "s1")
		if err := f.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 0 || len(all.ids) != 1 {
			t.Fatalf("told of %v after %v, want s1 at once", all.ids, waited)
		}
		if ok, err := f.CaughtUp(t.Context()); err != nil || !ok {
			t.Fatalf("CaughtUp = %v, %v", ok, err)
		}
		_ = stop()
	})
}

// What changes between Begin and Run, while the caller loads, is delivered.
func TestFollowerBeginThenLoadThenRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		log.add(change.App, "loaded")
		var all seen
		f := change.NewFollower(log, 0, zap.NewNop())
		f.Subscribe("all", nil, all.take)
		if err := f.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.add(change.App, "during the load")
		stop := follow(t, f)
		if err := f.Wait(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		_ = stop()
		if diff := cmp.Diff([]string{"during the load"}, all.ids); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestFollowerRetriesOnlyWhoFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		bad, good := seen{fail: errors.New("no memory")}, seen{}
		f := change.NewFollower(log, 0, zap.NewNop())
		f.Subscribe("bad", nil, bad.take)
		f.Subscribe("good", nil, good.take)
		stop := follow(t, f)
		synctest.Wait()
		// More than one page, so that the slow one's place cannot hold the other's.
		var want []string
		for range 2_500 {
			want = append(want, "s")
		}
		log.add(change.Session, want...)
		<-time.After(10 * change.DefaultInterval) // fake time
		synctest.Wait()
		if len(good.ids) != len(want) || good.tries != 3 {
			t.Errorf("good: told of %d in %d calls, want %d in 3", len(good.ids), good.tries, len(want))
		}
		if bad.tries < 9 || f.Version() != 0 {
			t.Errorf("bad: %d tries, follower at %d; want about 10, and 0", bad.tries, f.Version())
		}
		bad.fail = nil
		if err := f.Wait(t.Context(), 2_500); err != nil {
			t.Fatal(err)
		}
		if len(bad.ids) != len(want) {
			t.Errorf("bad: told of %d after all, want %d", len(bad.ids), len(want))
		}
		_ = stop()
	})
}

func TestFollowerOutlastsABrokenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		var all seen
		f := change.NewFollower(log, 0, zap.NewNop())
		f.Subscribe("all", nil, all.take)
		stop := follow(t, f)
		synctest.Wait()
		log.fail(errors.New("away"))
		log.add(change.Key, "k1")
		<-time.After(time.Minute) // fake time
		log.fail(nil)
		if err := f.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFollowerRefusesLateSubscribers(t *testing.T) {
	f := change.NewFollower(&memory{}, 0, zap.NewNop())
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("Subscribe after Begin went through")
		}
	}()
	f.Subscribe("late", nil, nil)
}

func TestFollowerBoundsASubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		var after seen
		f := change.NewFollower(log, 0, zap.NewNop())
		f.Subscribe("hangs", nil, func(ctx context.Context, _ []change.Change) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.Subscribe("after", nil, after.take)
		stop := follow(t, f)
		synctest.Wait()
		log.add(change.Session, "s1")
		<-time.After(6 * time.Second) // fake time
		synctest.Wait()
		if len(after.ids) != 1 {
			t.Fatal("one that hangs kept the others from hearing")
		}
		_ = stop()
	})
}

// How old copies may be is told by when the log was read last, and whether it can be read.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		f := change.NewFollower(log, 0, zap.NewNop())
		var all seen
		f.Subscribe("all", nil, all.take)
		stop := follow(t, f)
		check := func(when string, from, to time.Duration, want bool) {
			t.Helper()
			synctest.Wait()
			if since, failing := f.Silence(); since < from || since > to || failing != want {
				t.Errorf("%s: %v, failing %v", when, since, failing)
			}
		}
		<-time.After(time.Minute)
		check("followed", 0, change.DefaultInterval, false)
		log.fail(errors.New("away"))
		<-time.After(10 * time.Minute)
		check("away", 10*time.Minute, 10*time.Minute+change.DefaultInterval, true)
		log.fail(nil)
		f.Kick()
		check("back", 0, 0, false)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// looked counts how often the log is read; each look takes a millisecond.
type looked struct {
	memory
	count atomic.Int64
}

func (l *looked) Since(ctx context.Context, version int64, limit int) ([]change.Change, error) {
	<-time.After(time.Millisecond)
	l.count.Add(1)
	return l.memory.Since(ctx, version, limit)
}

// Whoever hints without an end, a database's user for one, makes nobody read without an end; one hint after a rest is acted on at once.
func TestAFloodOfHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, s := &looked{}, &seen{}
		f := change.NewFollower(log, time.Minute, zap.NewNop())
		f.Subscribe("test", nil, s.take)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		<-time.After(10 * time.Second)
		log.add(change.Session, "ses_1")
		f.Kick()
		<-time.After(5 * time.Millisecond)
		synctest.Wait()
		if len(s.ids) != 1 {
			t.Error("a hint after a rest had to wait")
		}
		log.count.Store(0)
		for range 10_000 {
			f.Kick()
			<-time.After(100 * time.Microsecond)
		}
		if n := log.count.Load(); n > 120 {
			t.Errorf("the log was read %d times in a second", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
