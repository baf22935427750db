package ingress

import "time"

const (
	// tripAfter is how much evidence in a row opens the circuit, counted over tripWindow: an exchange that the origin did not
	// answer is 1, a check is checkWeight, so that two checks or five exchanges are enough.
	tripAfter   = 5
	tripWindow  = time.Minute
	checkWeight = 3
	// firstPause and lastPause bound how long an open circuit waits before the next trial: it doubles with every trial that
	// fails.
	firstPause = 2 * time.Second
	lastPause  = 30 * time.Second
	// trialGrace leaves the trial to the check, which costs nobody anything. Where no check comes, an exchange is the trial.
	trialGrace = 15 * time.Second
)

// circuitState is where a circuit is.
type circuitState int

const (
	circuitClosed  circuitState = iota // exchanges pass
	circuitOpen                        // none passes
	circuitTesting                     // one is on its way as a trial, no other passes
)

func (s circuitState) String() string {
	switch s {
	case circuitOpen:
		return "open"
	case circuitTesting:
		return "testing"
	case circuitClosed:
	}
	return "closed"
}

// circuit spares an origin that does not answer, and everybody who would wait for it: while it is open, exchanges fail at
// once with what it opened for. It is a pure state machine: time comes in, nothing waits.
//
//	closed ──evidence──► open ──pause over, trial taken──► testing
//	   ▲                  ▲ ▲                                 │
//	   └──any answer──────┘ └──trial failed, longer pause─────┘
//
// Any answer closes it, also a late one to an exchange that began before it opened: what answers is there.
type circuit struct {
	state    circuitState
	evidence int       // in a row, while closed
	since    time.Time // when the first of it came
	pause    time.Duration
	// trialAt is when the next trial may begin; in circuitTesting, when the one on its way began.
	trialAt time.Time
	cause   *failure // what it opened for
}

// allow returns nil for an exchange that may go, or else what the circuit is open for.
func (c *circuit) allow(now time.Time) *failure {
	if c.state == circuitClosed {
		return nil
	}
	if now.Before(c.trialAt.Add(trialGrace)) {
		return c.cause
	}
	c.trial(now)
	return nil
}

// trial notes that something is tried on an open circuit.
func (c *circuit) trial(now time.Time) {
	if c.state != circuitClosed {
		c.state, c.trialAt = circuitTesting, now
	}
}

// answered closes the circuit; true means that it was not closed before.
func (c *circuit) answered() bool {
	changed := c.state != circuitClosed
	*c = circuit{}
	return changed
}

// failed takes evidence that the origin does not answer; true means that the circuit opened.
func (c *circuit) failed(now time.Time, weight int, cause *failure) bool {
	switch c.state {
	case circuitOpen:
		// An exchange from before it opened: known already.
		return false
	case circuitTesting:
		c.open(now, min(2*c.pause, lastPause), cause)
		return false
	case circuitClosed:
	}
	if c.evidence == 0 || now.Sub(c.since) > tripWindow {
		c.evidence, c.since = 0, now
	}
	if c.evidence += weight; c.evidence < tripAfter {
		return false
	}
	c.open(now, firstPause, cause)
	return true
}

func (c *circuit) open(now time.Time, pause time.Duration, cause *failure) {
	*c = circuit{state: circuitOpen, pause: pause, trialAt: now.Add(pause), cause: cause}
}
