package ingress

import (
	"testing"
	"time"
)

func TestCircuit(t *testing.T) {
	const exchange, check = 1, checkWeight
	for _, c := range []struct {
		name string
		// each step is a time in seconds and what happens then: x an exchange fails, c a check fails, t a trial begins, a an answer
		steps []step
		state circuitState
		at    int  // when an exchange asks
		goes  bool // whether it may go
	}{
		{"four exchanges", []step{{0, "x"}, {1, "x"}, {2, "x"}, {3, "x"}}, circuitClosed, 4, true},
		{"five exchanges", []step{{0, "x"}, {1, "x"}, {2, "x"}, {3, "x"}, {4, "x"}}, circuitOpen, 5, false},
		{"an answer between them", []step{{0, "x"}, {1, "x"}, {2, "x"}, {3, "x"}, {4, "a"}, {5, "x"}}, circuitClosed, 5, true},
		{"five in more than the window", []step{{0, "x"}, {1, "x"}, {2, "x"}, {3, "x"}, {62, "x"}}, circuitClosed, 62, true},
		{"one check", []step{{0, "c"}}, circuitClosed, 1, true},
		{"two checks", []step{{0, "c"}, {5, "c"}}, circuitOpen, 6, false},
		{"a check and two exchanges", []step{{0, "c"}, {1, "x"}, {2, "x"}}, circuitOpen, 3, false},
		{"the pause is over, the check is to be the trial", []step{{0, "c"}, {0, "c"}}, circuitOpen, 16, false},
		{"no check came", []step{{0, "c"}, {0, "c"}}, circuitTesting, 17, true},
		{"a trial is on its way", []step{{0, "c"}, {0, "c"}, {2, "t"}}, circuitTesting, 16, false},
		{"the trial never ended", []step{{0, "c"}, {0, "c"}, {2, "t"}}, circuitTesting, 17, true},
		{"the trial failed: a longer pause", []step{{0, "c"}, {0, "c"}, {2, "t"}, {3, "c"}}, circuitOpen, 21, false},
		{"the trial succeeded", []step{{0, "c"}, {0, "c"}, {2, "t"}, {3, "a"}}, circuitClosed, 3, true},
		{"a late answer", []step{{0, "c"}, {0, "c"}, {1, "a"}}, circuitClosed, 1, true},
		{"it starts afresh", []step{{0, "c"}, {0, "c"}, {1, "a"}, {2, "c"}}, circuitClosed, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var circuit circuit
			cause := fail("E-X", "down", nil)
			for _, s := range c.steps {
				now := time.Unix(1000+int64(s.at), 0)
				switch s.what {
				case "x":
					circuit.failed(now, exchange, cause)
				case "c":
					circuit.failed(now, check, cause)
				case "t":
					circuit.trial(now)
				case "a":
					circuit.answered()
				}
			}
			why := circuit.allow(time.Unix(1000+int64(c.at), 0))
			if (why == nil) != c.goes || !c.goes && why != cause || circuit.state != c.state {
				t.Errorf("%s, an exchange gets %v", circuit.state, why)
			}
		})
	}
}

type step struct {
	at   int
	what string
}

func TestPausesOfACircuitGrowToABound(t *testing.T) {
	var c circuit
	now := time.Unix(1000, 0)
	cause := fail("E-X", "down", nil)
	c.failed(now, tripAfter, cause)
	var pauses []time.Duration
	for range 7 {
		pauses = append(pauses, c.trialAt.Sub(now))
		now = c.trialAt
		c.trial(now)
		c.failed(now, checkWeight, cause)
	}
	if pauses[0] != firstPause || pauses[1] != 2*firstPause || pauses[6] != lastPause {
		t.Errorf("pauses %v", pauses)
	}
}
