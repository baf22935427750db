package change_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport-dev/sallyport/pkg/change"
)

// goBack makes the log an earlier copy of itself, which went on in another way.
func (m *memory) goBack(to int64, then ...string) {
	m.mu.Lock()
	m.rows = slices.DeleteFunc(m.rows, func(c change.Change) bool { return c.Version > to })
	m.head = to
	m.mu.Unlock()
	m.add(change.Session, then...)
}

// Where the log is not the one that was read before, every subscriber reads all of its kinds again, says so until it has, and goes on
// from there; nothing is waited for in silence, and what comes after is delivered.
func TestFollowerReadsAllAgain(t *testing.T) {
	for name, breaks := range map[string]func(log *memory, f *change.Follower){
		"an earlier copy":                          func(log *memory, _ *change.Follower) { log.goBack(3) },
		"an earlier copy, as long":                 func(log *memory, _ *change.Follower) { log.goBack(3, "s8", "s9") },
		"an earlier copy, longer":                  func(log *memory, _ *change.Follower) { log.goBack(3, "s7", "s8", "s9", "s10") },
		"an empty one":                             func(log *memory, _ *change.Follower) { log.goBack(0) },
		"rows were pruned that nobody had read":    func(log *memory, _ *change.Follower) { log.add(change.App, "p", "q", "r"); log.prune(8) },
		"somebody knows that it was switched over": func(_ *memory, f *change.Follower) { f.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memory{}
				log.add(change.App, "before")
				core, logs := observer.New(zap.ErrorLevel)
				f := change.NewFollower(log, 0, zap.New(core))
				var got []change.Change
				fails := 0
				f.Subscribe("all", nil, func(_ context.Context, changes []change.Change) error {
					if fails > 0 {
						fails--
						return errors.New("no memory")
					}
					got = append(got, changes...)
					return nil
				})
				var keys []change.Change
				f.Subscribe("keys", []change.Kind{change.Key}, func(_ context.Context, changes []change.Change) error {
					keys = append(keys, changes...)
					return nil
				})
				stop := follow(t, f)
				synctest.Wait()
				log.add(change.App, "a2", "a3", "a4", "a5")
				if err := f.Wait(t.Context(), 5); err != nil || len(got) != 4 {
					t.Fatalf("%v, told of %v", err, got)
				}
				got, fails = nil, 2
				breaks(log, f)
				<-time.After(5 * change.DefaultInterval) // fake time
				synctest.Wait()
				if len(got) != len(change.Kinds()) || slices.ContainsFunc(got, func(c change.Change) bool { return !c.IsAnything() }) {
					t.Errorf("told of %v", got)
				}
				if len(keys) != 1 || keys[0] != change.Anything(change.Key) {
					t.Errorf("of keys: %v", keys)
				}
				if said := logs.FilterMessageSnippet("is read again").Len(); said != 1 && name != "somebody knows that it was switched over" {
					t.Errorf("it was said %d times", said)
				}
				got = nil
				log.add(change.App, "after")
				<-time.After(2 * change.DefaultInterval) // fake time
				synctest.Wait()
				if len(got) != 1 || got[0].ID != "after" {
					t.Errorf("afterwards: told of %v", got)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A store that was moved has a version and no rows before it; that is no break.
func TestFollowerOfAStoreThatWasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{head: 41}
		f := change.NewFollower(log, 0, zap.NewNop())
		var all seen
		f.Subscribe("all", nil, all.take)
		stop := follow(t, f)
		<-time.After(time.Minute) // fake time
		log.add(change.App, "first")
		if err := f.Wait(t.Context(), 42); err != nil {
			t.Fatal(err)
		}
		_ = stop()
		if len(all.ids) != 1 || all.ids[0] != "first" {
			t.Errorf("told of %q", all.ids)
		}
	})
}
