package pace

import (
	"testing"
	"time"
)

// line is a fluid model of a line with a queue: what both lanes send above its rate waits, and what waits longer than depth is
// lost (and, for bulk, counts as not delivered).
type line struct {
	rate    float64 // bytes a second
	depth   time.Duration
	backlog float64
	loop    Loop
	now     time.Duration
	fast    uint64
	bulk    uint64
	queued  []time.Duration
}

// run sends for d: exchanges want fast bytes a second, bulk as much as the loop lets it.
func (l *line) run(d time.Duration, fast float64, exchanges int) (bulkRate float64) {
	const step = 5 * time.Millisecond
	began := l.bulk
	for end := l.now + d; l.now < end; l.now += step {
		queue := time.Duration(l.backlog / l.rate * float64(time.Second))
		l.queued = append(l.queued, queue)
		l.loop.Step(step, Sample{Queue: queue, Exchanges: exchanges, Sent: l.fast}, l.bulk)
		want := l.loop.Given() / step.Seconds()
		if l.loop.Free() {
			want = l.rate // the transport's own congestion control
		}
		l.fast += uint64(fast * step.Seconds())
		l.bulk += uint64(want * step.Seconds())
		l.backlog = max(l.backlog+(fast+want-l.rate)*step.Seconds(), 0)
		l.backlog = min(l.backlog, l.rate*l.depth.Seconds())
	}
	return float64(l.bulk-began) / d.Seconds()
}

func (l *line) worst(from time.Duration) time.Duration {
	worst := time.Duration(0)
	for i, q := range l.queued {
		if time.Duration(i)*5*time.Millisecond >= from {
			worst = max(worst, q)
		}
	}
	return worst
}

func newLine(mbit float64) *line { return &line{rate: mbit * 1e6 / 8, depth: 100 * time.Millisecond} }

func TestBulkAloneHasTheLine(t *testing.T) {
	l := newLine(20)
	l.run(time.Second, 0, 0)
	if !l.loop.Free() {
		t.Error("a body beside nothing is held back")
	}
}

func TestBulkTakesWhatExchangesLeave(t *testing.T) {
	for _, mbit := range []float64{2, 20, 100, 1000} {
		for _, part := range []float64{0.1, 0.4, 0.7} {
			l := newLine(mbit)
			l.run(3*time.Second, l.rate*part, 3)
			got := l.run(10*time.Second, l.rate*part, 3)
			left := l.rate * (1 - part)
			if got < 0.6*left || got > 1.01*left {
				t.Errorf("%v Mbit/s, exchanges use %v: bulk got %.2f of what they leave, want 0.60 to 1", mbit, part, got/left)
			}
			if worst := l.worst(8 * time.Second); worst > 2*target {
				t.Errorf("%v Mbit/s, exchanges use %v: %v queued beside bulk, want %v at most", mbit, part, worst, 2*target)
			}
		}
	}
}

// A page comes in bursts of answers, with round trips between. Bulk that went into buffers while it was alone has the line taken for
// one of four times the rate: that is forgotten.
func TestALineThatWasTakenForMoreIsFoundBesideBursts(t *testing.T) {
	const part = 40 * time.Millisecond
	l := newLine(20)
	l.run(time.Second, 0, 0)
	l.loop.line = 4 * l.rate
	bursts := func(n int) (bulk float64) {
		for range n {
			bulk += (l.run(part, l.rate, 3) + l.run(part, 0, 3)) * part.Seconds()
		}
		return bulk
	}
	bursts(50)
	if got := l.loop.Line() / l.rate; got > 1.3 || got < 0.7 {
		t.Errorf("the line is taken for %.1f times what it carries", got)
	}
	got, left := bursts(100), 100*l.rate*part.Seconds()
	if got < 0.6*left || got > 1.01*left {
		t.Errorf("bulk got %.2f of what bursts leave, want 0.60 to 1", got/left)
	}
}

// What a burst sends, bulk does not send: at once, and until that is made up for.
func TestBulkStandsBackForABurst(t *testing.T) {
	l := newLine(20)
	l.run(5*time.Second, l.rate*0.4, 3)
	before := l.bulk
	l.run(20*time.Millisecond, l.rate, 3)
	l.run(10*time.Millisecond, 0, 3)
	if got, all := float64(l.bulk-before), l.rate*0.03; got > all*0.4 {
		t.Errorf("beside a burst that took two thirds of the line, bulk had %.2f of it", got/all)
	}
}

func TestBulkGivesWayToExchangesThatBegin(t *testing.T) {
	l := newLine(20)
	l.run(5*time.Second, 0, 0)
	l.queued = nil
	began := l.now
	l.run(2*time.Second, l.rate*0.9, 4)
	for i, q := range l.queued {
		if at := time.Duration(i) * 5 * time.Millisecond; at > 500*time.Millisecond && q > 3*target {
			t.Fatalf("%v after exchanges began (at %v) %v queue", at, began, q)
		}
	}
}

func TestBulkIsBackWhenExchangesPause(t *testing.T) {
	l := newLine(20)
	l.run(5*time.Second, l.rate*0.8, 4)
	l.run(200*time.Millisecond, 0, 0)
	if !l.loop.Free() {
		t.Error("bulk is still held back 200 ms after the last exchange")
	}
}

func TestBulkIsNeverHeldBackForEver(t *testing.T) {
	l := newLine(1)
	got := l.run(5*time.Second, l.rate*3, 9) // far too much
	if got < slowest*0.9 {
		t.Errorf("bulk got %.0f bytes a second beside exchanges that want three times the line, want %d", got, slowest)
	}
}

func TestTheLineIsFoundAgainWhenItChanges(t *testing.T) {
	l := newLine(50)
	l.run(5*time.Second, l.rate*0.2, 3)
	l.rate /= 5
	l.run(10*time.Second, l.rate*0.2, 3)
	l.queued = nil
	l.run(2*time.Second, l.rate*0.2, 3)
	if worst := l.worst(0); worst > 3*target {
		t.Errorf("10 s after the line became slower %v queue", worst)
	}
	l.rate *= 5
	l.run(30*time.Second, l.rate*0.2, 3)
	if got := l.run(time.Second, l.rate*0.2, 3); got < 0.5*l.rate {
		t.Errorf("30 s after the line became faster bulk has %.2f of it", got/l.rate)
	}
}

// Something queues for a moment, at the beginning, that is not the line's doing: bulk does not stay at what was found till then.
func TestAMomentsDelayIsNotTheLine(t *testing.T) {
	l := newLine(100)
	l.run(300*time.Millisecond, l.rate*0.2, 3)
	l.backlog = l.rate * 0.04
	l.rate /= 50
	l.run(200*time.Millisecond, l.rate*0.2, 3)
	l.rate *= 50
	l.backlog = 0
	l.run(5*time.Second, l.rate*0.2, 3)
	if got := l.run(time.Second, l.rate*0.2, 3); got < 0.6*0.8*l.rate {
		t.Errorf("5 s later bulk has %.2f of the line", got/l.rate)
	}
	l.queued = nil
	l.run(20*time.Second, l.rate*0.2, 3)
	if worst := l.worst(0); worst > 2*target {
		t.Errorf("%v queued beside bulk", worst)
	}
}
