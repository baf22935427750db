package access

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// fullCache has room for as many copies as it holds.
func fullCache(t *testing.T, size int, how *trust, now *time.Time) *cache[string, string] {
	t.Helper()
	c := newCache[string, string](size, time.Hour, func() time.Time { return *now }, func() trust { return *how })
	for i := range size {
		key := fmt.Sprintf("known %d", i)
		if _, err := c.get(t.Context(), key, func(context.Context, string) (string, error) { return key, nil }); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(time.Second)
	}
	return c
}

// Whoever makes references up takes nobody's copy away: while the store is away, each of those is somebody who could not go on.
func TestMadeUpReferencesPushNobodyOut(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, how := range []trust{current, behind, away} {
		c := fullCache(t, 4, &how, &now)
		for i := range 100 {
			for _, err := range []error{errStranger, fault.New(fault.Unavailable, "away")} {
				_, got := c.get(t.Context(), fmt.Sprintf("made up %d", i), func(context.Context, string) (string, error) { return "", err })
				if !errors.Is(got, err) {
					t.Fatal(got)
				}
			}
		}
		for i := range 4 {
			if v, ok := c.peek(fmt.Sprintf("known %d", i)); !ok || v != fmt.Sprintf("known %d", i) {
				t.Errorf("trust %d: copy %d is gone", how, i)
			}
		}
	}
}

// A clinic that fills the room pushes out whoever has not been read for longest, not whoever is at work.
func TestAFullCacheLetsGoOfWhoIsNotAtWork(t *testing.T) {
	now, how := time.Unix(1_800_000_000, 0), current
	c := fullCache(t, evictAmong, &how, &now)
	read := func(key string) {
		t.Helper()
		if _, err := c.get(t.Context(), key, func(context.Context, string) (string, error) { return key, nil }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		now = now.Add(2 * time.Hour)
		read("known 3") // read anew each time: it is older than the cache's time to live
		now = now.Add(time.Second)
		read(fmt.Sprintf("other clinic %d", i))
		if _, ok := c.peek("known 3"); !ok {
			t.Fatalf("whoever is at work was pushed out by newcomer %d", i)
		}
	}
	if n := len(c.all()); n != evictAmong {
		t.Errorf("%d copies, want %d", n, evictAmong)
	}
}
