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
		for range 2 { // all that one key may hold
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
		if len(order) != 2 || order[1] != calm {
			t.Fatalf("order %v: half of the places are for others", order)
		}
		wait(calm)
		q.release(busy)
		synctest.Wait()
		q.release(calm)
		synctest.Wait()
		q.release(busy)
		synctest.Wait()
		if len(order) != 5 || order[2] != busy || order[3] != calm || order[4] != busy {
			t.Errorf("order %v, want turns", order)
		}
		for _, key := range []uint64{busy, busy, calm, calm} {
			q.release(key)
		}
		if q.free != 4 || q.waiting != 0 || len(q.held) != 0 || len(q.order) != 0 || len(q.lines) != 0 {
			t.Errorf("left over: %+v", q)
		}
	})
}

// A program with hundreds of requests in the queue does not shut the door on somebody with one.
func TestTheLongestLineGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 3)
		if err := q.acquire(t.Context(), 9, 0); err != nil {
			t.Fatal(err)
		}
		program, doctor := make(chan error, 3), make(chan error, 1)
		for range 3 {
			go func() { program <- q.acquire(t.Context(), 1, time.Hour) }()
		}
		synctest.Wait()
		go func() { doctor <- q.acquire(t.Context(), 2, time.Hour) }()
		synctest.Wait()
		if err := <-program; !errors.Is(err, errBusy) || len(program) != 0 {
			t.Errorf("the program's last: %v, and %d more ended", err, len(program))
		}
		if err := q.acquire(t.Context(), 1, time.Hour); !errors.Is(err, errBusy) {
			t.Errorf("the program's next one: %v", err)
		}
		q.release(9)
		if err := <-program; err != nil {
			t.Error(err)
		}
		q.release(1)
		if err := <-doctor; err != nil {
			t.Errorf("the doctor's turn: %v", err)
		}
		down := errors.New("down")
		q.drop(down)
		if err := <-program; !errors.Is(err, down) {
			t.Errorf("after the circuit opened: %v", err)
		}
		q.release(2)
		if running, waiting := q.load(); running != 0 || waiting != 0 {
			t.Errorf("%d run, %d wait", running, waiting)
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
