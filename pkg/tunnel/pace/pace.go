// Package pace owns how fast bulk bodies leave beside exchanges: bulk yields. One Pacer stands at the sender of both lanes of
// a link set; it watches the fast lane and gives bulk bodies what exchanges leave, in turn, never nothing. It opens no
// sockets and knows no frames. DESIGN.md tells why the loop is as it is, and what was measured.
package pace

import (
	"context"
	"sync"
	"time"
)

// Sample is what the fast lane looks like now.
type Sample struct {
	// Queue is its queueing delay: the lowest latest-minus-minimum round trip of its links; negative while unknown.
	Queue time.Duration
	// Exchanges is how many run on the fast lane.
	Exchanges int
	// Sent is how many bytes it has sent since it is up; it may fall when a link ends.
	Sent uint64
}

const (
	// tick is how often the rate is judged anew and tokens are handed out.
	tick = 5 * time.Millisecond
	// burst bounds what may leave at once after a pause, in ticks.
	burst = 2
	// quantum is the least that a bucket holds, bytes: one frame of a body must fit whatever the rate.
	quantum = 64 << 10
)

// Pacer paces the bulk bodies of one link set. It is safe for concurrent use; while no Flow is open it costs nothing.
type Pacer struct {
	signal func() Sample

	mu      sync.Mutex // guards all below; never held while anything waits
	loop    Loop
	flows   int
	stop    chan struct{} // ends the ticking; nil while it does not run
	last    time.Time
	tokens  float64
	waiting []*waiter // in the order in which they came; a flow has one at a time, so that flows take turns
	sent    uint64
}

type waiter struct {
	n     int
	ready chan struct{}
}

// New returns a pacer; signal is asked every 5 ms while a body is sent, and must not block.
func New(signal func() Sample) *Pacer { return &Pacer{signal: signal} }

// Flow is one bulk body.
type Flow struct {
	p    *Pacer
	turn sync.Mutex // one Wait at a time
	once sync.Once
}

// Flow starts pacing a body. Close it when the body has ended.
func (p *Pacer) Flow() *Flow {
	s := p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows++; p.flows == 1 {
		p.stop = make(chan struct{})
		p.last, p.tokens = time.Now(), quantum
		p.advance(p.last, s)
		go p.run(p.stop)
	}
	return &Flow{p: p}
}

// Close ends the flow; it may be called twice.
func (f *Flow) Close() {
	f.once.Do(func() {
		f.p.mu.Lock()
		defer f.p.mu.Unlock()
		if f.p.flows--; f.p.flows == 0 {
			close(f.p.stop)
			f.p.stop = nil
		}
	})
}

// Wait returns when n bytes of this body may leave, or with ctx's cause. Bodies take turns, one Wait each.
func (f *Flow) Wait(ctx context.Context, n int) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w := f.p.take(n)
	if w == nil {
		return nil
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		f.p.drop(w)
		return context.Cause(ctx)
	}
}

// Lump returns how many bytes of this body are best written at once: while bodies are paced, what they may send in a tick or
// two, because more would stand on the line before what exchanges send next.
func (f *Flow) Lump() int {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if f.p.loop.Free() {
		return quantum
	}
	return min(max(int(f.p.loop.Rate()*burst*tick.Seconds()), quantum/8), quantum)
}

// take grants n bytes at once and returns nil, or queues the caller.
func (p *Pacer) take(n int) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 && (p.loop.Free() || p.tokens > 0) {
		p.grant(n)
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	return w
}

// grant lets n bytes go. Tokens may fall below zero by one frame: the next one waits for that much longer.
func (p *Pacer) grant(n int) {
	p.sent += uint64(n)
	if !p.loop.Free() {
		p.tokens -= float64(n)
	}
}

func (p *Pacer) drop(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
}

// run judges the rate and serves who waits, until the last flow has closed.
func (p *Pacer) run(stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		s := p.signal()
		p.mu.Lock()
		p.advance(time.Now(), s)
		p.mu.Unlock()
	}
}

func (p *Pacer) advance(now time.Time, s Sample) {
	passed := now.Sub(p.last)
	p.last = now
	p.loop.Step(passed, s, p.sent)
	p.tokens = min(p.tokens+p.loop.Given(), max(p.loop.Rate()*burst*tick.Seconds(), quantum/4))
	for len(p.waiting) > 0 && (p.loop.Free() || p.tokens > 0) {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.grant(w.n)
		close(w.ready)
	}
}

// State describes the pacer for metrics and status.
type State struct {
	// Flows is how many bulk bodies are being sent, Rate what they may have together in bytes a second, 0 for no limit.
	Flows int
	Rate  float64
}

// State returns what the pacer allows now.
func (p *Pacer) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Flows: p.flows}
	if !p.loop.Free() {
		s.Rate = p.loop.Rate()
	}
	return s
}
