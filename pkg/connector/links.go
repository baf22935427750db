package connector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// quicLead is the head start of QUIC over WebSocket.
	quicLead = time.Second
	// dialTimeout bounds one attempt with both transports.
	dialTimeout = 20 * time.Second
	// backoffCap is below tunnel's default: however long an edge was away, the clinic works within 15 s of its return.
	backoffCap = 10 * time.Second
	// freshTrip is how old the last round trip of a link may be that counts as up.
	freshTrip = 10 * time.Second
)

// links keeps the fast link to the edge up. One is enough until bodies move to a bulk link.
type links struct {
	target   tunnel.Target
	dial     func(ctx context.Context) (tunnel.Link, error)
	open     controlclient.Config
	identity Identity
	gate     *gate
	origins  func() []*tunnelv1.OriginHealth
	logger   *zap.Logger
	up       *prometheus.GaugeVec
	attempts *prometheus.CounterVec
	backoff  tunnel.Backoff

	mu      sync.Mutex // guards all below
	current *controlclient.Link
	leaving bool
}

func newLinks(cfg Config, identity Identity, target tunnel.Target, open controlclient.Config, g *gate, origins func() []*tunnelv1.OriginHealth, logger *zap.Logger) *links {
	l := &links{
		target: target, open: open, identity: identity, gate: g, origins: origins, logger: logger,
		up:       cfg.Metrics.Gauge("sallyport_link_up", "1 while a link of this transport to the edge is up.", "transport"),
		backoff:  tunnel.Backoff{Cap: backoffCap},
		attempts: cfg.Metrics.Counter("sallyport_link_attempts_total", "Attempts to open a link, by outcome.", "result"),
	}
	l.open.Lane = tunnelv1.Lane_LANE_FAST
	l.dial = dialer(cfg, target)
	return l
}

// dialer chooses the transports.
func dialer(cfg Config, target tunnel.Target) func(context.Context) (tunnel.Link, error) {
	overQUIC, overTCP := cfg.QUIC, cfg.WebSocket
	if overQUIC == nil {
		overQUIC = &quiclink.Dialer{}
	}
	if overTCP == nil {
		overTCP = &wslink.Dialer{}
	}
	switch cfg.Transport {
	case TransportQUIC:
		return func(ctx context.Context) (tunnel.Link, error) { return overQUIC.Dial(ctx, target) }
	case TransportWebSocket:
		return func(ctx context.Context) (tunnel.Link, error) { return overTCP.Dial(ctx, target) }
	}
	return func(ctx context.Context) (tunnel.Link, error) {
		return tunnel.Race(ctx, target, overQUIC, overTCP, quicLead)
	}
}

// run dials, serves and dials again until ctx ends (then the link is closed and it returns nil) or the enrolment is revoked.
func (l *links) run(ctx context.Context) error {
	for !over(ctx) {
		began := time.Now()
		err := l.once(ctx)
		if over(ctx) {
			break // that is how it should end
		}
		code, retry := ending(err)
		if code == tunnel.ReasonRevoked {
			l.logger.Error("enrolment revoked", zap.Error(err))
			return ErrRevoked
		}
		var down *downError
		upFor := time.Duration(0)
		if errors.As(err, &down) {
			upFor = down.up
		}
		wait := l.backoff.Next(time.Now(), upFor, retry)
		l.logger.Warn("no link to the edge; dialling again", zap.Error(err), zap.Duration("in", wait), zap.Duration("lasted", time.Since(began)))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func over(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// ending tells what the edge said when a link ended or was refused; code is empty when it said nothing.
func ending(err error) (code string, retry time.Duration) {
	var refused *controlclient.RefusedError
	var closed *tunnel.ClosedError
	switch {
	case errors.As(err, &refused):
		return refused.Code, refused.RetryAfter
	case errors.As(err, &closed) && closed.Remote:
		return closed.Reason.Code, closed.Reason.RetryAfter
	}
	return "", 0
}

// downError ends a link that was open.
type downError struct {
	up    time.Duration
	cause error
}

func (e *downError) Error() string { return e.cause.Error() }
func (e *downError) Unwrap() error { return e.cause }

// once dials and serves one link until it ends.
func (l *links) once(ctx context.Context) error {
	link, err := l.connect(ctx)
	if err != nil {
		l.attempts.WithLabelValues("failed").Inc()
		return err
	}
	l.attempts.WithLabelValues("up").Inc()
	transport := link.Info().Transport
	l.logger.Info("link up", zap.String("transport", transport), zap.Uint64("generation", link.Generation),
		zap.Duration("clock_offset", l.open.Clock.Offset()))
	l.up.WithLabelValues(transport).Set(1)
	defer l.up.WithLabelValues(transport).Set(0)
	l.hold(link)
	defer l.hold(nil)

	began := time.Now()
	var streams sync.WaitGroup
	streams.Go(func() { l.gate.serve(link) })
	err = link.Serve(ctx, controlclient.Handlers{
		Revoke:  l.gate.revoke,
		Origins: l.origins,
		Drain:   func(within time.Duration) { l.logger.Info("the edge drains", zap.Duration("within", within)) },
	})
	streams.Wait()
	return &downError{up: time.Since(began), cause: err}
}

func (l *links) connect(ctx context.Context) (*controlclient.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	open := l.open
	link, err := controlclient.Open(ctx, raw, open)
	if err != nil {
		if errors.Is(err, controlclient.ErrNotOurEdge) {
			l.logger.Error("the peer is not our edge", zap.Error(err))
		}
		return nil, err
	}
	if link.Tenant != l.identity.Tenant || link.Site != l.identity.Site {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "registered for another tenant or site than enrolled for"})
		return nil, fmt.Errorf("%w: it registered this connector for %s/%s", controlclient.ErrNotOurEdge, link.Tenant, link.Site)
	}
	l.open.Generation = link.Generation
	return link, nil
}

// hold makes link the one that is up.
func (l *links) hold(link *controlclient.Link) {
	l.mu.Lock()
	l.current = link
	leaving := l.leaving
	l.mu.Unlock()
	if link != nil && leaving {
		_ = link.Leave(0)
	}
}

// leave tells the edge to send no more exchanges.
func (l *links) leave(within time.Duration) {
	l.mu.Lock()
	l.leaving = true
	link := l.current
	l.mu.Unlock()
	if link == nil {
		return
	}
	if err := link.Leave(within); err != nil {
		l.logger.Warn("the edge could not be told that this connector stops", zap.Error(err))
	}
}

// fresh returns the link that is up: its last round trip is no older than 10 s.
func (l *links) fresh() (transport string, trip time.Duration, ok bool) {
	l.mu.Lock()
	link := l.current
	l.mu.Unlock()
	if link == nil {
		return "", 0, false
	}
	at, trip := link.RoundTrip()
	if at.IsZero() || time.Since(at) > freshTrip {
		return "", 0, false
	}
	return link.Info().Transport, trip, true
}

func (l *links) isLeaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving
}
