// Package access owns the way from a request to a grant: who is asking (authenticate), whether they may (authorize, the one
// place that writes "allow", after it was recorded), for how long (leases, which end within seconds when a session, token,
// user, app or rule changes), and the assertions that say so to connector and origin. What the rules mean is policy's; pages
// and redirects are login's.
package access

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Keys signs and checks tokens; *token.Keyring is one.
type Keys interface {
	Mint(kind token.Kind, c token.Claims) (string, error)
	Verifier(kind token.Kind) token.Verifier
}

// Sessions is what access needs of session.Store.
type Sessions interface {
	SessionByReference(ctx context.Context, tenant id.Tenant, hash, host string) (session.Session, error)
	Session(ctx context.Context, tenant id.Tenant, session id.Session) (session.Session, error)
	Touch(ctx context.Context, tenant id.Tenant, session id.Session, seen time.Time) error
}

// Services is what access needs of token.ServiceStore.
type Services interface {
	ServiceToken(ctx context.Context, tenant id.Tenant, token id.Token) (token.ServiceToken, error)
	TouchServiceToken(ctx context.Context, tenant id.Tenant, token id.Token, at time.Time) error
}

// Users is what access needs of identity.Store.
type Users interface {
	User(ctx context.Context, tenant id.Tenant, user id.User) (identity.User, error)
}

// Apps is what access needs of tenant.Store.
type Apps interface {
	Apps(ctx context.Context, tenant id.Tenant) ([]tenant.App, error)
}

// Recorder makes a decision durable before it takes effect; *audit.Recorder is one.
type Recorder interface {
	Decide(ctx context.Context, d audit.Decision) (sequence int64, err error)
}

// Follower tells of changes, in order and again until it is told nil; *change.Follower is one.
type Follower interface {
	Subscribe(name string, kinds []change.Kind, f func(ctx context.Context, changes []change.Change) error)
}

// The bounds of what is kept in memory, for how long a copy is believed while the change log says nothing of it, and how long
// a request waits for the store: not long where a copy can stand in for it.
const (
	maxLogins     = 40_000
	maxMachines   = 5_000
	maxAssertions = 40_000
	maxStrangers  = 4_096
	believe       = 30 * time.Second
	storeWait     = 5 * time.Second
	shortWait     = time.Second
	againAfter    = 2 * time.Second
)

// Config is what an Access works with; everything but Log, Grace, Now, Logger and Metrics is required.
type Config struct {
	Keys     Keys
	Sessions Sessions
	Services Services
	Users    Users
	Apps     Apps
	Recorder Recorder
	Follower Follower
	// Log, where set, says how far copies can be believed; without it the store is asked for whatever is older than 30 s.
	Log Log
	// Grace is how long copies stand in for a store that is away, counted from the last time that the log was read.
	Grace time.Duration
	// Revoked reports whether a session, user (by id or e-mail address) or token is revoked although the store may not say so yet; nil:
	// nothing is.
	Revoked func(tenant id.Tenant, kind change.Kind, name string) bool
	Now     func() time.Time
	Logger  *zap.Logger
	Metrics *metric.Registry
}

// Access authenticates and authorises requests. It is safe for concurrent use.
type Access struct {
	cfg        Config
	logins     *cache[loginKey, *login]
	machines   *cache[machineKey, *machine]
	leases     *leases
	rules      *rules
	assertions *assertions
	strangers  *strangers
	metrics    metrics
}

type metrics struct {
	decisions *prometheus.CounterVec
	strangers *prometheus.CounterVec
	ended     *prometheus.CounterVec
}

// New returns an Access that follows changes; call it before the follower runs.
func New(cfg Config) *Access {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(id.Tenant, change.Kind, string) bool { return false }
	}
	a := &Access{
		cfg:        cfg,
		rules:      newRules(),
		assertions: newAssertions(maxAssertions),
		strangers:  newStrangers(maxStrangers),
		metrics: metrics{
			decisions: cfg.Metrics.Counter("sallyport_access_decisions_total", "Judged requests of known principals.", "effect", "reason"),
			strangers: cfg.Metrics.Counter("sallyport_access_strangers_total", "Requests of unknown principals, refused.", "reason"),
			ended:     cfg.Metrics.Counter("sallyport_access_leases_ended_total", "Requests cut because what allowed them ended.", "cause"),
		},
	}
	a.logins = newCache[loginKey, *login](maxLogins, believe, cfg.Now, a.trust)
	a.machines = newCache[machineKey, *machine](maxMachines, believe, cfg.Now, a.trust)
	a.leases = &leases{byTenant: map[id.Tenant]map[*Lease]struct{}{}}
	a.follow(cfg.Follower)
	return a
}
