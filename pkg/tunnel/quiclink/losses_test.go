package quiclink

import (
	"testing"
	"time"
)

func TestLosses(t *testing.T) {
	type look struct {
		after      time.Duration
		sent, lost uint64 // in all
		want       bool
	}
	for _, c := range []struct {
		what  string
		looks []look
	}{
		{"nothing is lost", []look{{time.Second, 1000, 0, false}, {time.Second, 2000, 0, false}}},
		{"one is lost, and nothing for long", []look{{time.Second, 1000, 1, true}, {119 * time.Second, 1000, 1, true}, {time.Second, 2000, 1, false}}},
		{"one more is lost in time", []look{{time.Second, 1000, 1, true}, {time.Minute, 2000, 2, true}, {119 * time.Second, 3000, 2, true}}},
		{"one was only late", []look{{time.Second, 1000, 1, true}, {time.Second, 2000, 0, true}, {2 * time.Minute, 3000, 0, false}}},
		{"of few packets one is lost", []look{{time.Second, 2, 1, true}}},
		{"a twentieth is lost", []look{{time.Second, 1000, 50, true}}},
		{"more is lost: the line is full", []look{{time.Second, 1000, 51, false}}},
		{"it was full", []look{{time.Second, 1000, 100, false}, {time.Second, 2000, 105, true}, {time.Second, 3000, 205, false}}},
	} {
		var l losses
		now := time.Unix(1_800_000_000, 0)
		for i, at := range c.looks {
			now = now.Add(at.after)
			if got := l.look(now, at.sent, at.lost); got != at.want {
				t.Errorf("%s: look %d: protected is %v, want %v", c.what, i, got, at.want)
			}
		}
	}
}
