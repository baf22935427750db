package tunnel

import (
	"testing"
	"time"
)

func TestBackoffWithDefaults(t *testing.T) {
	type step struct{ up, retry, min, max time.Duration }
	for name, steps := range map[string][]step{
		"doubles up to 30 s": {
			{max: time.Second},
			{max: 2 * time.Second},
			{max: 4 * time.Second},
			{max: 8 * time.Second},
			{max: 16 * time.Second},
			{max: 30 * time.Second},
			{max: 30 * time.Second},
		},
		"a stable minute starts afresh": {
			{max: time.Second}, {max: 2 * time.Second}, {up: time.Minute, max: time.Second}, {max: 2 * time.Second},
		},
		"a link that flaps does not": {
			{max: time.Second}, {up: 59 * time.Second, max: 2 * time.Second}, {up: 59 * time.Second, max: 4 * time.Second},
		},
		"what the peer asks for is obeyed": {
			{retry: 90 * time.Second, min: 90 * time.Second, max: 91 * time.Second}, {max: 2 * time.Second},
		},
		"an edge that refuses again and again is asked less often": {
			{retry: time.Second, min: time.Second, max: 2 * time.Second},
			{retry: time.Second, min: time.Second, max: 2 * time.Second},
			{retry: time.Second, min: time.Second, max: 3 * time.Second},
			{retry: time.Second, min: time.Second, max: 3 * time.Second},
			{retry: time.Second, min: time.Second, max: 5 * time.Second},
			{retry: time.Second, min: time.Second, max: 5 * time.Second},
			{retry: time.Second, min: time.Second, max: 9 * time.Second},
			{retry: time.Second, min: time.Second, max: 9 * time.Second},
			{retry: time.Second, min: time.Second, max: 16 * time.Second},
			{retry: time.Second, min: time.Second, max: 16 * time.Second},
			{retry: time.Second, min: time.Second, max: 16 * time.Second},
			{up: time.Minute, retry: time.Second, min: time.Second, max: 2 * time.Second},
		},
		"up to an hour": {
			{retry: 100 * time.Hour, min: time.Hour, max: time.Hour + time.Second},
		},
	} {
		for _, random := range []float64{0, 0.5, 0.999999} {
			b := &Backoff{Rand: func() float64 { return random }}
			now := time.Now()
			for i, s := range steps {
				now = now.Add(s.up)
				got := b.Next(now, s.up, s.retry)
				want := s.min + time.Duration(random*float64(s.max-s.min))
				if got != want {
					t.Errorf("%s, random %v: wait %d is %v, not %v", name, random, i, got, want)
				}
				now = now.Add(got)
			}
		}
	}
}

func TestBackoffForgetsWhileTheMachineSleeps(t *testing.T) {
	b := &Backoff{Rand: func() float64 { return 0.5 }}
	now := time.Now()
	for range 10 {
		now = now.Add(b.Next(now, 0, 0))
	}
	if got := b.Next(now.Add(8*time.Hour), 0, 0); got != time.Second/2 {
		t.Errorf("after a night: %v", got)
	}
}
