package tunnel

import (
	"math/rand/v2"
	"time"
)

// Backoff decides how long a connector waits before it dials again. It is the one layer that waits: transports try
// once. The zero value has the defaults. It is for one goroutine.
type Backoff struct {
	// Base bounds the first wait; default 1 s. Each further failure doubles the bound.
	Base time.Duration
	// Cap bounds every wait that the peer did not ask for; default 30 s.
	Cap time.Duration
	// Stable is how long a link must have been up for its end to count as a first failure; default 1 min.
	Stable time.Duration
	// Rand returns a number in [0, 1); default math/rand.
	Rand func() float64

	failures int
	due      time.Time
}

// Next returns how long to wait at now, after a link that was up for upFor (0: the dial failed) and whose end asked for
// retryAfter (0: did not). The wait is uniform between 0 and the bound ("full jitter"), so that a thousand connectors
// of one edge that restarts do not come back in step. A retryAfter is added in full, and jittered by a bound that doubles with every
// second failure up to half of Cap: an edge that thousands ask at a time says the same to all, each answer costs it, and who asks again
// every second or two keeps it, and those that it lets in, from ever being done.
func (b *Backoff) Next(now time.Time, upFor, retryAfter time.Duration) time.Duration {
	base, limit, stable := orDefault(b.Base, time.Second), orDefault(b.Cap, 30*time.Second), orDefault(b.Stable, time.Minute)
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	// Asked long after the last wait was over: the machine slept, or somebody stopped and started us.
	slept := !b.due.IsZero() && now.Sub(b.due) > limit+stable+upFor
	if upFor >= stable || slept {
		b.failures = 0
	}
	wait := Jitter(base, limit, b.failures, random())
	if retryAfter > 0 {
		wait = min(retryAfter, maxRetryAfter) + Jitter(base, limit/2, b.failures/2, random())
	}
	b.failures++
	b.due = now.Add(wait)
	return wait
}

// Jitter is the wait after the given number of earlier failures in a row, for a random number r in [0, 1).
func Jitter(base, limit time.Duration, failures int, r float64) time.Duration {
	bound := limit
	if failures < 32 && base<<failures < limit && base<<failures > 0 {
		bound = base << failures
	}
	return time.Duration(r * float64(bound))
}

func orDefault[T int | time.Duration](d, def T) T {
	if d > 0 {
		return d
	}
	return def
}
