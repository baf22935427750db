package ingress

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueIsFairBetweenSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(4, 16)
		const busy, calm = 1, 2
		for range 3 { // all that one key may hold
			if err := q.acquire(t.Context(), busy, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		var order []uint64
		wait := func(key uint64) {
			go func() {
				if q.acquire(t.Context(), key, time.Minute) == nil {
					order = append(order, key)
				}
			}()
			synctest.Wait()
		}
		wait(busy)
		wait(busy)
		if len(order) != 0 {
			t.Fatal("one session holds every place")
		}
		wait(calm)
		if len(order) != 1 || order[0] != calm {
			t.Fatalf("order %v: the other session had to wait behind the busy one", order)
		}
		wait(calm)
		q.release(busy)
		synctest.Wait()
		q.release(calm)
		synctest.Wait()
		if len(order) != 3 || order[1] != busy || order[2] != calm {
			t.Errorf("order %v, want turns", order)
		}
		q.release(busy)
		q.release(busy)
		q.release(busy)
		q.release(calm)
		synctest.Wait()
		q.release(busy)
		if q.free != 4 || q.load() != 0 || len(q.held) != 0 || len(q.order) != 0 {
			t.Errorf("left over: %+v", q)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 1)
		_ = q.acquire(t.Context(), 1, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- q.acquire(ctx, 2, time.Minute) }()
		synctest.Wait()
		if err := q.acquire(t.Context(), 3, time.Minute); !errors.Is(err, errBusy) {
			t.Errorf("a full queue: %v", err)
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		began := time.Now()
		if err := q.acquire(t.Context(), 3, time.Minute); !errors.Is(err, errBusy) || time.Since(began) != time.Minute {
			t.Errorf("%v after %s, want busy after a minute", err, time.Since(began))
		}
		q.release(1)
		if err := q.acquire(t.Context(), 4, 0); err != nil {
			t.Errorf("a free place: %v", err)
		}
	})
}

func TestCircuit(t *testing.T) {
	var c circuit
	now, down := time.Unix(1000, 0), errors.New("down")
	for range tripAfter {
		if err := c.allow(now); err != nil {
			t.Fatalf("open too soon: %v", err)
		}
		c.note(now, down)
	}
	if err := c.allow(now.Add(time.Second)); !errors.Is(err, down) {
		t.Errorf("closed: %v", err)
	}
	now = now.Add(openFor)
	if c.allow(now) != nil || c.allow(now) == nil {
		t.Error("want one trial after a while")
	}
	c.note(now, nil)
	if err := c.allow(now); err != nil {
		t.Errorf("still open after a success: %v", err)
	}
}
