package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// probeWait bounds one probe; grace is how much later than its interval an answer still counts as lately.
const (
	probeWait = 10 * time.Second
	grace     = 15 * time.Second
)

// OriginHealth is how one origin fares, for /ready.
type OriginHealth struct {
	// Origin is scheme and authority as the rule has it.
	Origin string
	// Healthy means that it answered lately, a probe or a user's request, and that the last probe found what the rule wants.
	Healthy bool
	// Answered is the last answer, Probed the last probe; zero for none.
	Answered, Probed time.Time
	// Status and Problem are what the last probe got: Problem is empty when it was content.
	Status  int
	Problem string
	// Waiting is how many exchanges queue for it.
	Waiting int
}

type health struct {
	mu               sync.Mutex
	answeredAt, when time.Time
	status           int
	problem          string
}

func (h *health) answered(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answeredAt = now
}

func (h *health) probed(now time.Time, status int, problem string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.when, h.status, h.problem = now, status, problem
	if status != 0 {
		h.answeredAt = now
	}
}

// Health reports each origin once, in the order of the rules.
func (in *Ingress) Health() []OriginHealth {
	var all []OriginHealth
	for _, o := range in.current.Load().distinct() {
		all = append(all, o.report())
	}
	return all
}

func (o *origin) report() OriginHealth {
	o.health.mu.Lock()
	defer o.health.mu.Unlock()
	h := &o.health
	lately := o.now().Sub(h.answeredAt) <= o.rule.Health.Interval+grace
	return OriginHealth{
		Origin: o.rule.Origin.String(), Healthy: lately && h.problem == "", Answered: h.answeredAt, Probed: h.when,
		Status: h.status, Problem: h.problem, Waiting: o.queue.load(),
	}
}

func (o *origin) watch(ctx context.Context) {
	ticker := time.NewTicker(o.rule.Health.Interval)
	defer ticker.Stop()
	for {
		o.probe(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// probe asks once. It does not queue: an origin whose places are all taken by slow reports is well.
func (o *origin) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: o.rule.Host,
		URL:    &url.URL{Scheme: o.rule.Origin.Scheme, Host: o.rule.Origin.Host, Opaque: o.rule.Health.Path},
		Header: http.Header{"User-Agent": {"sallyport-probe"}, "X-Forwarded-Proto": {"https"}},
	}).WithContext(ctx)
	resp, err := o.transport.RoundTrip(req)
	if err != nil {
		// A connector that is stopping says nothing about the origin.
		if f := classify(context.Background(), err); ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			o.health.probed(o.now(), 0, f.code)
		}
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	problem := ""
	switch want := o.rule.Health.Status; {
	case want != 0 && resp.StatusCode != want:
		problem = fmt.Sprintf("status %d, want %d", resp.StatusCode, want)
	case want == 0 && resp.StatusCode >= 500:
		problem = fmt.Sprintf("status %d", resp.StatusCode)
	}
	o.health.probed(o.now(), resp.StatusCode, problem)
}
