// Package edge owns the edge as a whole: what it is made of (this file), its configuration, its one port (listen.go), the way
// of a request (serve.go, read it first), the connectors' links, and how it starts and drains. Anything that a lower package
// can own is there.
package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/login"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/proxy"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/service"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// Edge is one edge process.
type Edge struct {
	config Config
	logger *zap.Logger

	// What is kept, and who follows it.
	clock    *cluster.Clock
	sealer   *secret.Sealer
	store    *store.DB
	follower *change.Follower
	keyring  *token.Keyring
	switched atomic.Pointer[func(store.History)] // when the database was; nil until copies are made

	// The one port.
	place   *place
	front   *front
	certs   *certs.Manager
	metrics *metric.Registry

	// The way of a request.
	routes   route.Current
	limits   *guard.Limits
	access   *access.Access
	recorder *audit.Recorder
	spool    *store.Spool   // nil where the store is this edge's own
	standby  *audit.Standby // nil as spool
	proxy    *proxy.Proxy
	login    *login.Login
	pages    *web.Pages
	tunnel   http.Handler // the edge's own host
	port     string       // what stands behind a host in URLs, ":8443"
	refused  *prometheus.CounterVec
	requests [3]prometheus.Counter // by version of HTTP, from 1 on
	altSvc   []string              // nil where HTTP/3 is not offered

	// The other end.
	registry *registry.Registry
	control  *controlserver.Server
	enrolled *enroll.Remembered
	links    *links
	doors    *doors
	inside   *inside
	quic     *quiclink.Listener // nil without QUIC

	// The other edges; nil where this one is alone.
	members *cluster.Members
	peers   *cluster.Peers
	revoker *cluster.Revoker // never nil
	heart   *cluster.Heart

	// How it ends.
	notifier  *service.Notifier
	ordinary  atomic.Int64 // requests under way
	draining  atomic.Bool
	succeeded atomic.Bool     // another process has the place
	cut       context.Context // ends a drain
	cutNow    context.CancelFunc

	mailer mail.Outlet
	outbox *mail.Queue

	reloader *conf.Reloader[Config]
	// inForce is the configuration with what a reload has changed since the start; config is what was started with.
	inForce atomic.Pointer[Config]
	telling sync.Mutex // held from the look at what connectors are told of edges until they are told
}

// current is the configuration in force; nobody changes it.
func (e *Edge) current() *Config { return e.inForce.Load() }

// New opens the store and the sockets and assembles everything; nothing is served before Run. ctx bounds New alone.
func New(ctx context.Context, config Config, logger *zap.Logger) (*Edge, error) {
	return assemble(ctx, config, logger, cluster.NewClock(nil))
}

func assemble(ctx context.Context, config Config, logger *zap.Logger, clock *cluster.Clock) (*Edge, error) {
	e := &Edge{config: config, logger: logger, clock: clock, metrics: metric.New(), notifier: service.NewNotifier()}
	e.inForce.Store(&config)
	e.cut, e.cutNow = context.WithCancel(context.Background())
	e.reloader = e.newReloader()
	for _, step := range []func(context.Context) error{
		e.askForPlace, e.openStore, e.openPort, e.openMail, e.assembleRevoker, e.assembleTunnel, e.assembleCluster, e.assembleRequests, e.follow,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, e.close(err))
		}
	}
	return e, nil
}

// Close lets go of what New opened. Run closes by itself.
func (e *Edge) Close() error { return e.close(nil) }

// close tells a running edge that waits for this one why it fails.
func (e *Edge) close(why error) error {
	var faults []error
	if e.place != nil {
		faults = append(faults, e.place.Close(why))
	}
	if e.spool != nil {
		faults = append(faults, e.spool.Close())
	}
	if e.store != nil {
		faults = append(faults, e.store.Close())
	}
	return errors.Join(faults...)
}

// Addr is where the edge listens, TCP and UDP alike.
func (e *Edge) Addr() net.Addr { return e.place.tcp.Addr() }

func (e *Edge) openStore(ctx context.Context) (err error) {
	if e.store, e.sealer, err = openStore(ctx, e.config, e.place.lock(), e.clock.Now, e.storeHistory); err != nil {
		return err
	}
	if e.store.Shared() && e.config.Cluster.Enabled() { // before anything is issued
		if err := e.clock.Measure(ctx, e.store.Cluster().Time); err != nil {
			return err
		}
	}
	e.follower = change.NewFollower(e.store.Changes(), 0, e.logger)
	e.store.WhenChanged(e.follower.Kick)
	if e.store.Shared() {
		e.metrics.MustRegister(e.storeAway())
	}
	if e.keyring, err = token.NewKeyring(ctx, e.store.Keys(), e.clock.Now); err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	// Before all others: what they verify again after a key was withdrawn must not be by the keys of before.
	e.follower.Subscribe("keys", []change.Kind{change.Key}, e.keysChanged)
	records := e.store.Audit()
	if e.store.Shared() {
		if e.spool, err = store.OpenSpool(ctx, filepath.Join(e.config.StateDir, "spool"), e.sealer); err != nil {
			return err
		}
		e.standby = audit.NewStandby(records, e.store.Merger(), e.spool, e.metrics, e.logger)
		records = e.standby
	}
	e.recorder = audit.NewRecorder(records, audit.RecorderConfig{Metrics: e.metrics}, e.logger)
	return nil
}

func (e *Edge) openPort(ctx context.Context) (err error) {
	c := certs.Config{HostAllowed: e.routes.Known, Pairs: e.config.pairs(), Now: e.clock.Now, Logger: e.logger, Metrics: e.metrics}
	if len(c.Pairs) == 0 {
		c.LocalCA = e.config.localCA()
	}
	if e.certs, err = certs.New(c); err != nil {
		return err
	}
	return e.openPlace(ctx)
}

func (e *Edge) openMail(context.Context) error {
	mailer, err := mail.FromConfig(e.config.Mail)
	if err != nil {
		return err
	}
	e.mailer.Use(mailer)
	if mailer == nil {
		e.logger.Warn("no mail server is configured: nobody can sign in by an e-mailed code")
	}
	e.outbox = mail.NewQueue(mail.QueueConfig{Sender: &e.mailer, Logger: e.logger, Metrics: e.metrics})
	return nil
}

func (e *Edge) assembleTunnel(context.Context) error {
	e.registry = registry.New(registry.Config{Alarm: e.freeze, Presence: e.config.Cluster.Enabled(), Logger: e.logger, Metrics: e.metrics})
	e.enrolled = enroll.Remember(e.store.Enroll(), e.standsIn)
	e.control = controlserver.New(controlserver.Config{
		Keyring: e.keyring, Enroll: e.enrolled, Registry: e.registry, Ingress: e.store.Ingress(), Now: e.clock.Now, Logger: e.logger, Metrics: e.metrics,
		Revoked: func(t id.Tenant, c id.Connector) bool { return e.revoker.Banned(t, change.Connector, string(c)) },
	})
	if err := e.control.SetEdges(e.config.edges()); err != nil {
		return err
	}
	e.limits = guard.NewLimits(e.config.Limits, nil, e.metrics)
	e.doors = newDoors(e.metrics)
	var err error
	if e.quic, err = e.listenQUIC(); err != nil {
		return err
	}
	var listener tunnel.Listener
	if e.quic != nil {
		listener = e.quic
	}
	e.links = newLinks(e.control, listener, e.logger)
	e.inside = newInside(e.Addr(), e.logger, e.metrics)
	return nil
}
