package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// said has the database say a time, which took a while to come.
func said(c *Clock, database time.Time, took time.Duration) {
	sent := c.wall().Add(-took)
	c.measured(sent, c.wall(), database)
}

// What a clock is after the database said what time it is: off is the machine's, took how long the answer did.
func TestClockFollowsTheDatabase(t *testing.T) {
	for name, one := range map[string]struct {
		off, took   time.Duration
		ahead, real time.Duration // what is said of the machine; how far the clock then is from the database's
	}{
		"right":                        {0, 0, 0, 0},
		"as good as right":             {900 * time.Millisecond, 0, 0, 900 * time.Millisecond},
		"ahead":                        {10 * time.Minute, 0, 10 * time.Minute, 0},
		"behind":                       {-10 * time.Minute, 0, -10 * time.Minute, 0},
		"a time zone ahead":            {5 * time.Hour, 0, 5 * time.Hour, 0},
		"years behind":                 {-30000 * time.Hour, 0, -30000 * time.Hour, 0},
		"right, and a late answer":     {2 * time.Second, 4 * time.Second, 0, 2 * time.Second},
		"behind, and answered in time": {-4 * time.Second, 2 * time.Second, -5 * time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewClock(func() time.Time { return time.Now().Add(one.off) })
				said(c, time.Now(), one.took)
				if got := c.Ahead(); got != one.ahead {
					t.Errorf("ahead by %s", got)
				}
				if got := c.Now().Round(0).Sub(time.Now().Round(0)); got != one.real {
					t.Errorf("off by %s", got)
				}
				began := c.Now()
				<-time.After(time.Hour)
				if got := c.Now().Sub(began); got != time.Hour {
					t.Errorf("an hour takes %s", got)
				}
			})
		})
	}
}

// The database's clock is another one than before: a little is followed, and what comes later; going back by hours would have all live
// longer that has an end, and is not followed by those who saw the later time, until they start again or it is put right.
func TestClockWhenTheDatabasesIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(nil)
		for _, one := range []struct{ off, want, back time.Duration }{
			{0, 0, 0},
			{500 * time.Millisecond, 0, 0},
			{-10 * time.Minute, -10 * time.Minute, 0},
			{10 * time.Minute, 10 * time.Minute, 0},
			{time.Hour, time.Hour, 0},
			{0, time.Hour, time.Hour},
			{50 * time.Minute, 50 * time.Minute, 0},
		} {
			said(c, time.Now().Add(one.off), 0)
			if got := c.Now().Round(0).Sub(time.Now().Round(0)); got != one.want || c.Back() != one.back {
				t.Errorf("the database is off by %s: this edge by %s, not followed %s", one.off, got, c.Back())
			}
			<-time.After(BeatEvery)
		}
		before := c.Now()
		err := c.Measure(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, errAway })
		if !errors.Is(err, errAway) || !c.Now().Equal(before) {
			t.Errorf("with the database away: %v, moved by %s", err, c.Now().Sub(before))
		}
	})
}

// A wrong clock is told once, in the log and to the other edges, and so is that it is right again.
func TestWrongClockIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zapcore.InfoLevel)
		store := newTable()
		n := startLogging(t, store, "one", zap.New(core))
		var told []time.Duration
		defer n.Subscribe(func(a Announcement) { told = append(told, a.Ahead) })()
		for _, ahead := range []time.Duration{0, -10 * time.Minute, 0} { // of the database's
			store.mu.Lock()
			store.ahead = ahead
			store.mu.Unlock()
			<-time.After(5 * BeatEvery)
		}
		n.stop()
		var words []string
		for _, e := range logged.All() {
			words = append(words, e.Level.String()+" "+e.Message)
		}
		if len(words) != 2 || logged.All()[0].Level != zapcore.WarnLevel || logged.All()[1].Level != zapcore.InfoLevel {
			t.Errorf("logged %q", words)
		}
		if last := told[len(told)-2:]; last[0] != 10*time.Minute || last[1] != 0 {
			t.Errorf("told %s", told)
		}
		if _, all, _ := n.heart.Status(t.Context()); all[0].Ahead != 0 {
			t.Errorf("%+v", all[0])
		}
	})
}
