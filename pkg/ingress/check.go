package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
)

const (
	// unfitAfter answers in a row that are not what the rule wants make an origin one to which others are preferred.
	unfitAfter = 2
	// recheck is the pause after a check that failed, leastPause the least between any two.
	recheck    = 5 * time.Second
	leastPause = time.Second
	// stallAfter without any answer, while exchanges wait for one, brings a check forward.
	stallAfter = 10 * time.Second
	maxProbed  = 64 << 10 // bytes read of a check's answer
)

// watch checks the origin until ctx ends, one check at a time.
func (o *origin) watch(ctx context.Context) {
	for {
		if !o.engaged() {
			o.check(ctx)
		}
		if !o.pause(ctx) {
			return
		}
	}
}

// pause waits for the next check to be due; false means that ctx ended.
func (o *origin) pause(ctx context.Context) bool {
	began := o.now()
	jitter := 0.9 + 0.2*rand.Float64() //nolint:gosec // spreads checks, guards nothing
	for {
		wait := o.due(began, jitter)
		if wait <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(wait, recheck))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-o.kick:
			began = o.now().Add(-o.probe.Interval * 2) // due, but for the least pause
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due is how long it is until the next check, for a pause that began at began.
func (o *origin) due(began time.Time, jitter float64) time.Duration {
	running, _ := o.queue.load()
	o.mu.Lock()
	defer o.mu.Unlock()
	now, h := o.now(), &o.health
	wait := began.Add(time.Duration(float64(o.probe.Interval) * jitter)).Sub(now)
	switch {
	case o.circuit.state != circuitClosed:
		wait = o.circuit.trialAt.Sub(now)
	case h.problem != "":
		wait = min(wait, h.when.Add(recheck).Sub(now))
	case running > 0 && now.Sub(h.answeredAt) > stallAfter:
		wait = min(wait, h.when.Add(stallAfter).Sub(now))
	}
	return max(wait, h.when.Add(leastPause).Sub(now))
}

// engaged reports whether the origin has its hands full and answers nevertheless: that is well, and no check could say
// more. A check does not queue, so it must not come on top.
func (o *origin) engaged() bool {
	_, waiting := o.queue.load()
	o.mu.Lock()
	defer o.mu.Unlock()
	return waiting > 0 && o.circuit.state == circuitClosed && o.health.problem == "" && o.now().Sub(o.health.answeredAt) < stallAfter
}

// check asks once and notes what came of it.
func (o *origin) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.probe.Timeout)
	defer cancel()
	o.mu.Lock()
	o.circuit.trial(o.now())
	o.mu.Unlock()
	status, latency, err := o.ask(ctx)
	if err != nil {
		// A connector that is stopping says nothing about the origin.
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			o.unanswered(explain(err))
		}
		return
	}
	o.checked(status, latency)
}

// ask makes one request as the rule's health check says. latency is from the dial to the head of the answer.
func (o *origin) ask(ctx context.Context) (status int, latency time.Duration, err error) {
	o.mu.Lock()
	host := o.checkHost
	o.mu.Unlock()
	req := (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: host,
		URL:    &url.URL{Scheme: o.url.Scheme, Host: o.url.Host, Opaque: o.probe.Path},
		Header: http.Header{"User-Agent": {"sallyport-probe"}, "X-Forwarded-Proto": {"https"}},
	}).WithContext(ctx)
	began := o.now()
	resp, err := o.checks.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	latency = o.now().Sub(began)
	_, _ = io.CopyN(io.Discard, resp.Body, maxProbed)
	_ = resp.Body.Close()
	return resp.StatusCode, latency, nil
}

// unanswered notes a check without an answer.
func (o *origin) unanswered(f *failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.state == "" {
		f.state = StateError
	}
	h := &o.health
	h.when, h.status, h.latency, h.unfit = o.now(), 0, 0, 0
	if h.state != f.state {
		o.logger.Warn("origin check failed", zap.String("origin", o.name), zap.String("state", f.state), zap.String("code", f.code))
	}
	h.state, h.problem = f.state, f.code
	o.evidence(checkWeight, f)
}

// checked notes an answer to a check.
func (o *origin) checked(status int, latency time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h, now := &o.health, o.now()
	before := h.problem
	h.when, h.answeredAt, h.status, h.latency = now, now, status, latency
	h.state, h.problem = StateOK, ""
	if o.probe.wants(status) {
		h.unfit = 0
	} else {
		h.unfit++
		h.state, h.problem = StateError, fmt.Sprintf("status %d", status)
		if len(o.probe.Statuses) > 0 {
			h.problem = fmt.Sprintf("status %d, want %d", status, o.probe.Statuses)
		}
	}
	opened := o.circuit.answered()
	switch {
	case h.problem != before && h.problem != "":
		o.logger.Warn("origin check failed", zap.String("origin", o.name), zap.String("problem", h.problem))
	case opened || h.problem != before:
		o.logger.Info("origin answers again", zap.String("origin", o.name))
	}
	o.settle(now)
	o.warnOfExpiry(now)
}

// warnOfExpiry puts the coming end of the certificate into the log, once for each step; mu is held.
func (o *origin) warnOfExpiry(now time.Time) {
	at := o.dialer.expires.Load()
	if at == 0 {
		return
	}
	expires := time.Unix(at, 0)
	words, step := o.warning(expires, now), urgency(expires.Sub(now))
	if words != "" && step > o.health.warned {
		o.logger.Warn("origin: "+words+"; renew it on that server", zap.String("origin", o.name), zap.Time("expires", expires))
	}
	o.health.warned = step
}
