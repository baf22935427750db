package connector

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

const (
	// upgradeEvery is how often a lane that runs over WebSocket tries QUIC, jittered by a quarter either way.
	upgradeEvery = 2 * time.Minute
)

// retry has a lane that waits, or that dials over a network that is gone, dial now; what the edge asked for stays obeyed.
func (l *lane) retry(now time.Time) {
	l.wanted.Store(true) // it is this machine's network that changed, and not an edge that a thousand come back to
	l.mu.Lock()
	if now.Before(l.due) && !now.Before(l.asked) {
		l.backoff, l.due = tunnel.Backoff{}, now
	}
	if l.abort != nil {
		l.abort()
	}
	l.mu.Unlock()
	l.wake()
	select {
	case l.improve <- struct{}{}:
	default:
	}
}

// replace takes a link out of those that serve and has it retired, so that another one is opened if it was needed; what runs on it
// goes on. The caller holds mu.
func (l *lane) replace(h *held) {
	if h.draining {
		return
	}
	l.logger.Info("link replaced", zap.String("lane", laneName(l.kind)), zap.String("transport", h.Info().Transport))
	l.empty(h)
	l.former = append(l.former, h)
	l.wake()
}

// gone replaces a link whose network is gone.
func (l *lane) gone(h *held, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.serving) == 1 && !h.draining {
		l.backoff, l.due = tunnel.Backoff{}, now
	}
	l.replace(h)
}

// upgrade moves a lane that has to make do with WebSocket back to QUIC once UDP reaches the edge again.
func (l *lane) upgrade(ctx context.Context, serving *sync.WaitGroup) {
	l.mu.Lock()
	choice := l.better != nil
	l.mu.Unlock()
	if !choice {
		return
	}
	for {
		timer := time.NewTimer(time.Duration(float64(upgradeEvery) * (0.75 + rand.Float64()/2)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-l.improve:
			timer.Stop()
		}
		if len(l.second()) > 0 && !l.isLeaving() {
			l.move(ctx, serving)
		}
	}
}

// second lists the links of the lane over WebSocket.
func (l *lane) second() (out []*held) {
	l.links.mu.Lock()
	all := append([]*held(nil), l.held...)
	l.links.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range all {
		if h.lane == l.kind && !h.draining && h.Info().Transport == TransportWebSocket {
			out = append(out, h)
		}
	}
	return out
}

// move opens a link over QUIC, which takes the place of those over WebSocket. That it cannot is no news, and costs no back-off: the lane has a link.
func (l *lane) move(ctx context.Context, serving *sync.WaitGroup) {
	l.mu.Lock()
	how, way := l.better, l.way
	l.mu.Unlock()
	link, err := l.connect(ctx, l.kind, how)
	if err != nil {
		l.attempts.WithLabelValues(laneName(l.kind), "failed").Inc()
		l.logger.Debug("QUIC does not reach the edge yet", zap.Error(err))
		return
	}
	l.begin(ctx, link, way, serving)
}
