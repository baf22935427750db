package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Log says how far behind the change log the copies may be; *change.Follower is one.
type Log interface {
	// Silence returns how long ago the last look began that read the log to its end, by a clock that cannot be set, and whether
	// looks have failed since.
	Silence() (since time.Duration, failing bool)
}

// currentFor is for how long after the log was read copies are taken for what the store says.
const currentFor = 5 * time.Second

// trust is how far copies are believed now.
type trust int

const (
	// current: the log is followed, and whatever it did not name is as it was.
	current trust = iota
	// behind: the log is not followed, and nothing says that the store is away; what matters is read from it.
	behind
	// away: the store does not answer. What was copied before stands in for it: until it is back nothing can change in it but by
	// edges that still reach it, and those tell their peers.
	away
	// over: it has been away for longer than the grace.
	over
)

// ErrUnchecked lies behind refusals because the store did not answer: whether somebody may go on is not known.
var ErrUnchecked = errors.New("the store does not answer")

// ErrAway ends leases when the store has been away for longer than Config.Grace.
var ErrAway = fmt.Errorf("%w: the store was away for too long", ErrRevoked)

func (a *Access) trust() trust {
	if a.cfg.Log == nil {
		return current
	}
	since, failing := a.cfg.Log.Silence()
	switch {
	case failing && since > max(a.cfg.Grace, currentFor):
		return over
	case failing:
		return away
	case since > currentFor:
		return behind
	}
	return current
}

// away reports whether the store is known not to answer.
func (a *Access) away() bool {
	t := a.trust()
	return t == away || t == over
}

// graceOver returns the refusal of everybody once the grace is over.
func (a *Access) graceOver() error {
	if a.trust() != over {
		return nil
	}
	return fault.New(fault.Unavailable, "this could not be checked for too long").Because(ErrUnchecked)
}

// sweepEvery is how soon after the end of the grace what runs is cut.
const sweepEvery = time.Second

// Run cuts what runs under a lease when the grace is over, and tells the store of use when it is back; it returns nil when ctx ends.
func (a *Access) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for untold := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch a.trust() {
		case current:
			if untold {
				untold = false
				a.tellUse(ctx)
			}
			continue
		case away:
			untold = true
			continue
		case behind:
			continue
		}
		untold = true
		if n := a.leases.endAll(ErrAway); n > 0 {
			a.cfg.Logger.Error("exchanges cut: the store has been away for longer than cluster.grace", zap.Int("exchanges", n))
		}
	}
}
