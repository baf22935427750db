package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

const (
	// agrees is how far a clock may be from the database's and count as the same: below token.Leeway, for two edges together.
	agrees = time.Second
	// warnsFrom is the difference from which an operator is told to set the machine's clock.
	warnsFrom = 5 * time.Second
	// farthestBack is how far the database's own clock may go back and be followed by a process that runs.
	farthestBack = 15 * time.Minute
)

// Clock is the time that an edge goes by: where several share a database, the database's, so that what one of them issues is neither
// early nor late at another. It is measured with each heartbeat and carried on by this machine's monotonic clock, so that setting the
// machine's clock changes nothing, with the database away too. Before the first measurement, and for an edge that is alone, it is
// the machine's. It is safe for concurrent use.
type Clock struct {
	wall func() time.Time
	// set is nil until something was measured. Every request reads it.
	set atomic.Pointer[reading]

	mu sync.Mutex // guards all below, and measuring
	// ahead is how far the machine's clock was ahead of the database's when that was measured last.
	ahead time.Duration
	// back is how far the database's clock is behind this one, which does not follow it; 0 otherwise.
	back time.Duration
}

// reading says that it was then when the machine's clock said at, which has its monotonic reading.
type reading struct{ at, then time.Time }

// by is the time when the machine's clock says now.
func (r *reading) by(now time.Time) time.Time {
	if r == nil {
		return now
	}
	return now.Add(r.then.Add(now.Sub(r.at)).Sub(now.Round(0)))
}

// NewClock returns a clock that goes by wall; nil means time.Now.
func NewClock(wall func() time.Time) *Clock {
	if wall == nil {
		wall = time.Now
	}
	return &Clock{wall: wall}
}

// Now is the time. Differences of two are measured by the monotonic clock as those of time.Now are.
func (c *Clock) Now() time.Time { return c.set.Load().by(c.wall()) }

// Ahead is how far this machine's clock was ahead of the database's when that was measured last; behind, if it is negative.
func (c *Clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// Back is how far the database's clock went back and is not followed; 0 if it did not.
func (c *Clock) Back() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.back
}

// Measure asks for the database's time. On an error the clock goes on as it was.
func (c *Clock) Measure(ctx context.Context, ask func(context.Context) (time.Time, error)) error {
	sent := c.wall()
	said, err := ask(ctx)
	if err != nil {
		return fmt.Errorf("the database's time: %w", err)
	}
	c.measured(sent, c.wall(), said)
	return nil
}

// measured takes that the database said a time somewhen between sent and received. The clock is only set if it cannot have been
// right: what an answer took is no difference.
func (c *Clock) measured(sent, received, said time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	middle := sent.Add(received.Sub(sent) / 2)
	c.ahead = 0
	if within := allowed(sent, received); !within(said) {
		c.ahead = middle.Round(0).Sub(said)
	}
	goes := c.set.Load()
	first, within := goes == nil, allowed(goes.by(sent), goes.by(received))
	c.back = 0
	switch {
	case !first && within(said):
	case !first && goes.by(sent).Round(0).Sub(said) > farthestBack:
		c.back = goes.by(middle).Round(0).Sub(said)
	case c.ahead == 0:
		c.set.Store(&reading{middle, middle.Round(0)})
	default:
		c.set.Store(&reading{middle, said})
	}
}

// allowed returns what a clock may say that says the time between the two.
func allowed(from, to time.Time) func(time.Time) bool {
	from, to = from.Round(0).Add(-agrees), to.Round(0).Add(agrees)
	return func(t time.Time) bool { return !t.Before(from) && !t.After(to) }
}

// watch tells the operator of a clock: the log when it goes wrong and when it is right again, the metrics always.
type watch struct {
	clock  *Clock
	logger *zap.Logger
	wrong  bool // the heart's goroutine alone has it
}

func newWatch(c *Clock, logger *zap.Logger, metrics *metric.Registry) *watch {
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_cluster_clock_ahead_seconds",
		Help: "How far this machine's clock was ahead of the database's at the last heartbeat, below 0 behind; 0 while they agree within a second.",
	}, func() float64 { return c.Ahead().Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_cluster_database_clock_back_seconds",
		Help: "How far the database's clock went back and is not followed by this process; 0: it did not.",
	}, func() float64 { return c.Back().Seconds() }))
	return &watch{clock: c, logger: logger}
}

// look is called after each measurement.
func (w *watch) look() {
	ahead, back := w.clock.Ahead(), w.clock.Back()
	wrong := ahead.Abs() >= warnsFrom || back > 0
	switch {
	case wrong == w.wrong:
	case back > 0:
		w.logger.Error("the database's clock was set back: this edge does not follow it; set it right, or restart all edges", zap.Duration("back", back))
	case wrong:
		w.logger.Warn("this machine's clock is wrong: the edge goes by the database's; have it set (NTP)", zap.Duration("ahead", ahead))
	default:
		w.logger.Info("this machine's clock agrees with the database's again")
	}
	w.wrong = wrong
}
