package conf_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/conf"
)

// Files are changed as editors and configuration management do it. What is written in two steps is told of once, when it is
// whole; the same bytes again are no change; a file that comes later, and one that another begins to name, are.
func TestChangedFilesAreNoticedOnceTheyHaveSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		main, named := filepath.Join(dir, "ingress.yaml"), filepath.Join(dir, "ca.pem")
		put := func(name, text string) {
			t.Helper()
			fresh := name + ".new"
			if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(fresh, name); err != nil {
				t.Fatal(err)
			}
		}
		put(main, "one")
		var names atomic.Pointer[[]string]
		names.Store(&[]string{main})
		w := conf.NewWatcher(2*time.Second, func() []string { return *names.Load() })
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx, func() { calls.Add(1) })
		}()
		after := func(what string, want int64, change func()) {
			t.Helper()
			change()
			<-time.After(5 * time.Second) // the bubble's clock
			synctest.Wait()
			if got := calls.Load(); got != want {
				t.Errorf("%s: told %d times, want %d", what, got, want)
			}
		}
		after("nothing", 0, func() {})
		after("replaced", 1, func() { put(main, "two") })
		after("the same bytes", 1, func() { put(main, "two") })
		after("two steps", 2, func() {
			put(main, "thr")
			<-time.After(2 * time.Second)
			put(main, "three")
		})
		after("gone", 3, func() { _ = os.Remove(main) })
		after("back", 4, func() { put(main, "three") })
		after("names a file that is not there", 5, func() { names.Store(&[]string{main, named}) })
		after("the file comes", 6, func() { put(named, "ca") })
		after("a directory in its place", 7, func() { _ = os.Remove(named); _ = os.Mkdir(named, 0o700) })
		cancel()
		<-ended
	})
}
