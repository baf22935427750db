package pace

import "time"

// The loop's constants. Rates are bytes a second.
const (
	// quiet is how long no exchange may run before bulk has the line to itself.
	quiet = 150 * time.Millisecond
	// target is the queueing delay that bulk may add to exchanges; above it bulk gives way.
	target = 18 * time.Millisecond
	// slowest is what bulk gets whatever happens: never nothing.
	slowest = 32 << 10
	// fill is the part of the line that both lanes together are let use while exchanges run, share the least part for
	// bulk.
	fill, share = 0.95, 0.04
	// owing is how much of the line exchanges may have had too much until bulk owes no more of it.
	owing = 100 * time.Millisecond
	// first is what the line is taken for while nothing is known of it.
	first = 256 << 10

	// window is over what the lanes' rates are measured.
	window = 100 * time.Millisecond
	// Growth of the line's rate in a window: while nothing has queued yet, while nothing queues, and while much does.
	startUp, upwards, downwards = 1.4, 1.01, 0.9
	// patient is how many windows nothing has queued until the search upwards hastens, by hasten with each further one: what queued for a
	// moment may have ended the first search far below what the line carries.
	patient, hasten = 25, 0.01
)

// Loop is the control loop by which bulk yields: pure, so that it can be tested against a line that is a few lines of code.
// Its zero value has seen nothing.
//
// While no exchange runs there is nobody to yield to, and the transport's own congestion control uses the line best: no
// limit. While exchanges run, both lanes together have most of the line, and less in proportion to the delay that is
// found on the fast lane; what exchanges send of that is bulk's no more, byte for byte. What the line carries is what both lanes together
// were seen to carry; it is searched upwards while nothing queues.
type Loop struct {
	rate float64 // of both lanes; 0: not limited
	idle time.Duration
	sent uint64  // by exchanges, at the last step
	owed float64 // bytes that exchanges sent beyond rate
	give float64 // bytes that the last step gave bulk

	line     float64
	searched bool    // something has queued once: the first search for the line's rate is over
	calm     int     // windows since something has queued in which both lanes used their rate
	fast     float64 // exchanges' rate over the last windows

	// One window of measuring.
	inWindow           time.Duration
	least              time.Duration // of the queueing delay in it
	queued             float64       // that delay times how long it was, seconds squared
	fastThen, bulkThen uint64
	before             float64 // the window's before, both lanes
	measured           bool
}

// Free reports that bulk is not limited.
func (l *Loop) Free() bool { return l.rate == 0 }

// Rate is what bulk may have beside what exchanges sent lately, bytes a second; 0 while it is not limited.
func (l *Loop) Rate() float64 {
	if l.Free() {
		return 0
	}
	return max(l.rate-l.fast, l.floor())
}

// Given is how many bytes the last step gave bulk, where it is limited.
func (l *Loop) Given() float64 { return l.give }

// floor is bulk's rate whatever happens.
func (l *Loop) floor() float64 { return max(l.line*share, slowest) }

// Line is the rate that the line is taken to have, bytes a second; 0 while unknown.
func (l *Loop) Line() float64 { return l.line }

// Step moves on by passed, with what the fast lane looks like now and the bytes that bulk has sent in all.
func (l *Loop) Step(passed time.Duration, s Sample, bulk uint64) {
	if s.Exchanges > 0 {
		l.idle = 0
	} else {
		l.idle += passed
	}
	l.measure(passed, s, bulk)
	now := float64(s.Sent - min(l.sent, s.Sent)) // it falls when a link ends
	l.sent = s.Sent
	if l.idle >= quiet {
		l.rate, l.owed, l.give = 0, 0, 0
		return
	}
	l.line = max(l.line, first)
	room := max(l.line*fill, slowest)
	if l.rate == 0 {
		l.rate = min(room, l.line/2)
	} else {
		l.rate = min(max(l.follow(passed, s.Queue, room), slowest), room)
	}
	if passed > 0 { // else it is the first step of a body, and what was sent was so before it
		l.spend(passed, now)
	}
}

// spend gives bulk what exchanges, which sent so many bytes in what has passed, left of the rate.
func (l *Loop) spend(passed time.Duration, sent float64) {
	left := l.rate*passed.Seconds() - sent - l.owed
	l.give = max(left, l.floor()*passed.Seconds())
	l.owed = min(max(-left, 0), l.rate*owing.Seconds())
}

// follow is the rate after the present one: a tenth of a second's way towards room while the delay is below target, less in
// proportion above it.
func (l *Loop) follow(passed, queue time.Duration, room float64) float64 {
	steps := float64(passed) / float64(100*time.Millisecond)
	if queue <= target {
		gain := 1 - float64(max(queue, 0))/float64(2*target)
		return l.rate + (room-l.rate)*min(steps*gain, 1)
	}
	over := min(float64(queue-target)/float64(3*target), 1)
	return l.rate * (1 - min(over*steps*4, 0.5))
}

// measure keeps the rates of both lanes and, from them and from what queues, the line's.
func (l *Loop) measure(passed time.Duration, s Sample, bulk uint64) {
	if l.inWindow == 0 {
		l.least, l.queued = s.Queue, 0
	}
	l.least = min(l.least, s.Queue)
	l.queued += max(s.Queue, 0).Seconds() * passed.Seconds()
	if l.inWindow += passed; l.inWindow < window {
		return
	}
	seconds := l.inWindow.Seconds()
	fast := 0.0
	if l.measured && s.Sent >= l.fastThen { // it falls when a link ends
		fast = float64(s.Sent-l.fastThen) / seconds
	}
	slow := float64(bulk-l.bulkThen) / seconds
	l.fast = l.fast*0.7 + fast*0.3
	// One window may catch a burst into empty buffers; what two in a row carried is the line's.
	carried := min(fast+slow, l.before)
	l.searchLine(carried, fast+slow)
	l.before = fast + slow
	l.fastThen, l.bulkThen, l.inWindow, l.measured = s.Sent, bulk, 0, true
}

// searchLine moves the line's rate. What was sent counts as carried only while nothing queues for it, or while the transport's
// own congestion control did the sending.
func (l *Loop) searchLine(carried, sent float64) {
	limited := l.rate > 0
	used := sent >= l.rate/2 // else nothing was learnt
	mean := time.Duration(l.queued / l.inWindow.Seconds() * float64(time.Second))
	switch {
	case !limited:
		l.line = max(l.line, carried)
		l.searched = l.searched || carried > 2*first
	case l.least > target/3 && mean > target: // the queue was never empty: what was carried is the line
		l.searched, l.calm = true, 0
		l.line = max(l.line*downwards, carried)
	case l.least > target/3 || mean > target:
		l.calm = 0
	case !used:
	case !l.searched:
		l.line *= startUp
	default:
		l.calm++
		by := upwards + hasten*float64(max(l.calm-patient, 0))
		l.line = max(l.line*min(by, startUp), carried)
	}
}
