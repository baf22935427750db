package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func TestDoorHasSoManyPlaces(t *testing.T) {
	d := &tunnel.Door{Places: 2}
	first, ok := d.Enter("a")
	_, second := d.Enter("b")
	if _, third := d.Enter("c"); !ok || !second || third {
		t.Fatal("want two of three let in")
	}
	first()
	first()
	_, ok = d.Enter("c")
	if _, too := d.Enter("d"); !ok || too {
		t.Error("want one place after one has left, however often it says so")
	}
}

func TestNoSourceShutsTheDoorForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &tunnel.Door{Places: 4, PerSource: 2}
		in := 0
		for range 4 {
			if _, ok := d.Enter("a"); ok {
				in++
			}
		}
		waits := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := d.Wait(ctx, "a")
			waits <- err
		}()
		synctest.Wait()
		if _, err := d.Wait(t.Context(), "b"); in != 2 || err != nil {
			t.Errorf("%d of one source let in, want 2; another: %v", in, err)
		}
		if err := <-waits; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the third of one source: %v", err)
		}
		<-time.After(10 * time.Second) // the default Limit
	})
}

func TestDoorLetsInInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &tunnel.Door{Places: 1}
		leave, _ := d.Enter("first")
		came := make(chan string, 3)
		enter := func(source string, within time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			if leave, err := d.Wait(ctx, source); err == nil {
				came <- source
				leave()
			} else {
				came <- source + " gave up"
			}
		}
		for i := range 3 {
			within := time.Minute
			if i == 1 {
				within = time.Millisecond
			}
			go enter(fmt.Sprint(i), within)
			synctest.Wait()
		}
		if _, ok := d.Enter("impatient"); ok {
			t.Error("somebody came in before those who wait")
		}
		<-time.After(time.Second)
		leave()
		synctest.Wait()
		for _, want := range []string{"1 gave up", "0", "2"} {
			if got := <-came; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if _, ok := d.Enter("last"); !ok {
			t.Error("a place was lost")
		}
		<-time.After(11 * time.Second)
		if _, ok := d.Enter("after the limit"); !ok {
			t.Error("a place was kept beyond the limit")
		}
		<-time.After(11 * time.Second)
	})
}

// A process that is late lets few in at a time, so that what is up lives, and all again when it is not.
func TestDoorIsNarrowWhileTheProcessIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late time.Duration
		d := &tunnel.Door{Places: 32, PerSource: 32, Limit: time.Hour, Late: func() time.Duration { return late }}
		fits := func() int {
			<-time.After(time.Minute) // it goes by steps
			var leave []func()
			for {
				l, ok := d.Enter(fmt.Sprint(len(leave)))
				if !ok {
					break
				}
				leave = append(leave, l)
				<-time.After(time.Second)
			}
			for _, l := range leave {
				l()
			}
			return len(leave)
		}
		if n := fits(); n != 32 {
			t.Errorf("%d fit while nothing is late, want 32", n)
		}
		late = time.Second
		if n := fits(); n != 4 {
			t.Errorf("%d fit while everything is late, want 4", n)
		}
		// What is let in is not put out, and who waits comes in when there is room again.
		leave, _ := d.Enter("a")
		for range 3 {
			_, _ = d.Enter("a")
		}
		waits := make(chan error, 1)
		go func() {
			_, err := d.Wait(t.Context(), "b")
			waits <- err
		}()
		synctest.Wait()
		select {
		case err := <-waits:
			t.Fatalf("a fifth came in: %v", err)
		default:
		}
		late = 0
		<-time.After(time.Second)
		leave()
		if err := <-waits; err != nil {
			t.Error(err)
		}
		if n := fits(); n != 32-4 {
			t.Errorf("%d fit beside four after that, want 28", n)
		}
		<-time.After(2 * time.Hour) // for the limit of those that never left
	})
}

// However few places they leave, sources that take all they get leave some to whoever has none.
func TestAFewSourcesDoNotShutTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &tunnel.Door{}
		for range 100 {
			for i := range 10 {
				_, _ = d.Enter(fmt.Sprint("greedy ", i))
			}
		}
		for i := range 3 {
			if _, ok := d.Enter(fmt.Sprint("modest ", i)); !ok {
				t.Errorf("modest source %d finds no place", i)
			}
		}
		<-time.After(10 * time.Second) // the default Limit
	})
}
