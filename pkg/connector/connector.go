// Package connector is the process beside the origin, assembled: it dials the edge and keeps a link up, checks every exchange
// against the assertion that came with it, and hands what holds to the ingress. It has no listener but a loopback one for
// readiness and metrics. What an origin is, and what HTTP means, is ingress's; how a link is opened is controlclient's.
package connector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/service"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// ErrRevoked is in the chain of Run's error when the operator revoked this connector's enrolment. Dialling on would change
// nothing: a new invitation is needed.
var ErrRevoked = errors.New("this connector's enrolment was revoked at the edge: ask for a new invitation and enrol again")

// Connector is one run of the process.
type Connector struct {
	cfg      Config
	identity Identity
	logger   *zap.Logger
	ingress  *ingress.Ingress
	rules    *rules
	links    *edges
	gate     *gate
	status   net.Listener
	metrics  *metric.Registry
	notify   *service.Notifier
	started  time.Time
	reloader *conf.Reloader[Config]
	inForce  atomic.Pointer[Config] // cfg with what reloads have changed since the start

	lock       *os.File // of the state directory; nil until Run, unless it was handed over, and where there is none
	succession succession
	owned      chan struct{}   // closed when this process is the one that runs, not only a successor that gets ready
	passing    context.Context // ends when a successor has the place
	passOn     context.CancelFunc
}

// New reads the state that enrolment left and the ingress rules, and opens the loopback listener. Everything that is wrong
// with them is in the error.
func New(cfg Config) (*Connector, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	identity, key, errState := LoadState(cfg.StateDir)
	logger := cfg.Logger.With(log.Connector(identity.Connector), log.Tenant(identity.Tenant), log.Site(identity.Site))
	rules, errRules := newRules(cfg, logger)
	if err := errors.Join(errState, errRules); err != nil {
		return nil, err
	}
	if cfg.QUIC == nil {
		cfg.QUIC = &quiclink.Dialer{Config: quiclink.Config{Repairs: fec.NewMetrics(cfg.Metrics)}}
	}
	c := &Connector{
		cfg: cfg, identity: identity, logger: logger, metrics: cfg.Metrics, notify: service.NewNotifier(), started: time.Now(), rules: rules,
		owned: make(chan struct{}),
	}
	c.inForce.Store(&cfg)
	c.reloader = c.newReloader()
	c.passing, c.passOn = context.WithCancel(context.Background())
	c.ingress = ingress.New(ingress.Config{Rules: rules.first, Logger: logger, Metrics: cfg.Metrics})
	rules.attach(c.ingress.Swap)
	open := controlclient.Config{
		Connector: identity.Connector, Key: key, Pinned: token.NewPinned(identity.RootKey), Clock: new(controlclient.Clock),
		Software: build.Version(), Rules: rules,
	}
	handler := exchange.Handler(c.ingress)
	if cfg.Handler != nil {
		handler = cfg.Handler
	}
	c.gate = newGate(identity, open.Pinned.Verifier(token.Assertion), open.Clock.Now, handler, logger, cfg.Metrics)
	var err error
	if c.links, err = newEdges(shared{cfg: cfg, identity: identity, open: open, dials: newDials(newInstance()), gate: c.gate, origins: c.origins, logger: logger}); err != nil {
		return nil, err
	}
	if err := c.takeOver(); err != nil { // last: what is wrong up to here is no concern of the connector that runs
		return nil, err
	}
	if cfg.Loopback != "" && c.status == nil {
		if c.status, err = new(net.ListenConfig).Listen(context.Background(), "tcp", cfg.Loopback); err != nil {
			return nil, c.succession.end(fmt.Errorf("status listen: %w", err))
		}
	}
	return c, nil
}

// newInstance names a run of the connector to the edge.
func newInstance() string {
	instance := make([]byte, 16)
	_, _ = rand.Read(instance) // never fails: it ends the process instead
	return hex.EncodeToString(instance)
}

// Identity says who this connector is.
func (c *Connector) Identity() Identity { return c.identity }

// StatusAddr is where /ready and /metrics are served; nil when they are not.
func (c *Connector) StatusAddr() net.Addr {
	if c.status == nil {
		return nil
	}
	return c.status.Addr()
}

// Run keeps the connector up until ctx ends; then it takes nothing new, finishes what runs within DrainTimeout, and returns
// nil; so it does when a successor has taken over. A network or an edge that is away never ends it. A revoked enrolment does,
// with ErrRevoked.
func (c *Connector) Run(ctx context.Context) (err error) {
	if c.lock == nil {
		if c.lock, err = lockState(c.cfg.StateDir); err != nil {
			return err
		}
	}
	defer func() { _ = c.lock.Close() }() // a nil file does not mind
	stopping := ctx
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	group := &run.Group{DrainTimeout: func() time.Duration { return c.inForce.Load().DrainTimeout }}
	if c.status != nil {
		group.Add(run.Part{Name: "status", Run: c.serveStatus})
	}
	group.Add(run.Part{Name: "origin health", Run: c.watchOrigins})
	group.Add(run.Part{Name: "ingress file", Run: c.rules.watch})
	group.Add(run.Part{Name: "configuration", Run: c.reloader.Run})
	group.Add(run.Part{Name: "links", Run: c.links.run, Drain: c.drain})
	group.Add(run.Part{Name: "succession", Run: func(ctx context.Context) error { return c.succeed(ctx, stopping, leave) }})
	group.Add(run.Part{Name: "service manager", Run: c.report})
	c.logger.Info("connector starts", zap.String("edge", c.identity.Edge), zap.String("version", build.Version()))
	err = group.Run(ctx)
	c.notify.Stopping()
	c.logger.Info("connector stops", zap.Error(err))
	return err
}

func (c *Connector) watchOrigins(ctx context.Context) error {
	err := c.ingress.Run(ctx)
	<-ctx.Done()
	return err
}

// drain tells the edge to send nothing more and waits for what runs.
func (c *Connector) drain(ctx context.Context) {
	c.notify.Stopping()
	c.logger.Info("connector drains", zap.Int("exchanges", c.gate.count()))
	succeeded := c.passing.Err() != nil
	c.links.leave(c.inForce.Load().DrainTimeout, succeeded)
	if left := c.gate.idle(ctx, func() bool { return succeeded && c.links.emptied() }); left > 0 {
		c.logger.Warn("exchanges cut off after the drain", zap.Int("exchanges", left))
	}
}

// report tells the service manager how it goes. That the links' lock can be taken is what "alive" means: a process that hangs
// there is better restarted.
func (c *Connector) report(ctx context.Context) error {
	select {
	case <-c.owned: // until then the service manager listens to the predecessor alone
	case <-ctx.Done():
		return nil
	}
	c.notify.Ready()
	return c.notify.Watch(ctx, func() string { return c.Status().summary() })
}
