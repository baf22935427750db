package guard

import (
	"testing"
	"time"
)

// A clock that is set back must neither keep the edge shut for hours, as it was at that moment, nor keep it open.
func TestMemoryIsLookedAtWhenTheClockIsSetBack(t *testing.T) {
	at, used := time.Now(), 0.99
	m := newMemory(func() time.Time { return at })
	m.used = func() float64 { return used }
	if !m.above(shedAt) {
		t.Fatal("99 % are not above 95 %")
	}
	at, used = at.Add(-time.Hour), 0.1
	if m.above(shedAt) {
		t.Error("an hour back, requests are still refused for what was")
	}
	at, used = at.Add(-time.Hour), 0.99
	if !m.above(shedAt) {
		t.Error("two hours back, nobody looks")
	}
}
