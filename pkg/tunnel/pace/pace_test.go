package pace

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// busy is a fast lane that always has exchanges and on which nothing queues beyond the target: bulk stays limited.
func busy() Sample { return Sample{Queue: target, Exchanges: 2} }

func TestBodiesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(busy)
		var got [3]int
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for i := range got {
			wg.Go(func() {
				f := p.Flow()
				defer f.Close()
				for f.Wait(ctx, 16<<10) == nil {
					got[i] += 16 << 10
				}
			})
		}
		wg.Wait()
		for _, n := range got {
			if n < got[0]*9/10 || n > got[0]*11/10 || n == 0 {
				t.Fatalf("three bodies got %v bytes in the same time", got)
			}
		}
		total := float64(got[0]+got[1]+got[2]) / 20
		if limit := float64(first); total > limit {
			t.Errorf("%.0f bytes a second left beside exchanges, more than %.0f", total, limit)
		}
	})
}

func TestABodyBesideNothingDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(func() Sample { return Sample{Queue: -1} })
		f := p.Flow()
		defer f.Close()
		<-time.After(time.Second) // fake: the loop has seen that nothing else runs
		began := time.Now()
		for range 10_000 {
			if err := f.Wait(t.Context(), 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("640 MB waited %v for nobody", took)
		}
	})
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(busy)
		f, other := p.Flow(), p.Flow()
		defer f.Close()
		defer other.Close()
		gone := errors.New("nobody wants this body any more")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			for {
				if err := f.Wait(ctx, 1<<20); err != nil {
					done <- err
					return
				}
			}
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		// Whoever waited behind it is served.
		if err := other.Wait(t.Context(), 1<<10); err != nil {
			t.Error(err)
		}
	})
}
