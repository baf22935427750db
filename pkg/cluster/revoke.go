package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

const (
	// maxPending is how many revocations may wait for the store; more are refused, so that none is lost.
	maxPending = 10_000
	// maxPendingOfOne is how many of them may be one clinic's, so that it leaves others theirs.
	maxPendingOfOne = maxPending / 4
	// maxBans bounds what is remembered as revoked because a peer said so. The oldest goes first: the change log has it.
	maxBans = 100_000
	// writeEvery is how often the store is tried again.
	writeEvery = 2 * time.Second
	// enforceLimit bounds ending what runs under one revocation: what cannot be looked up within it ends.
	enforceLimit = time.Second
)

// Revocable lists the kinds that can be revoked while the store cannot be written.
func Revocable() []change.Kind {
	return []change.Kind{change.Session, change.User, change.Token, change.Connector}
}

// RevokerStore writes revocations down; the store of sessions, users, tokens and connectors behind one face.
type RevokerStore interface {
	// Revoke makes what c names revoked. fault.NotFound: there is no such thing.
	Revoke(ctx context.Context, c change.Change) error
	// Revoked reports whether the store says so already.
	Revoked(ctx context.Context, c change.Change) (bool, error)
}

// RevokerConfig is what a Revoker needs; all but Logger and Metrics is required.
type RevokerConfig struct {
	// Path is the file in which what the store has not taken yet survives; Sealer seals it.
	Path   string
	Sealer Sealer
	Store  RevokerStore
	// Enforce ends what runs under what was revoked; ctx bounds it.
	Enforce func(ctx context.Context, c change.Change)
	// Tell sends changes to the other edges and returns how many there are links to.
	Tell func(changes []change.Change) int
	// Kick has the change log read now.
	Kick    func()
	Logger  *zap.Logger
	Metrics *metric.Registry
}

// Revoker makes revocations take effect on every edge at once, also those that the store cannot be told of. What it holds as revoked
// counts before anything that was cached (Banned); the change log stays the truth, and what it has caught up with is dropped here. It
// is safe for concurrent use.
type Revoker struct {
	cfg   RevokerConfig
	count *prometheus.CounterVec
	waits prometheus.Gauge
	kick  chan struct{}
	any   atomic.Bool // something is banned

	saving sync.Mutex // one save at a time; before mu

	mu sync.Mutex // guards all below
	// pending are what the store has not taken, as far as is known here; oldest first.
	pending []change.Change
	// banned counts what is revoked, by this edge or another, until the store says so itself.
	banned map[ban]time.Time
}

// ban is a revoked thing; the tenant comes first, as in every key.
type ban struct {
	tenant id.Tenant
	kind   change.Kind
	id     string
}

func banOf(c change.Change) ban { return ban{c.Tenant, c.Kind, c.ID} }

// NewRevoker reads what a former process could not write. A file that cannot be read is an error: a revocation must not be lost.
func NewRevoker(cfg RevokerConfig) (*Revoker, error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	r := &Revoker{
		cfg: cfg, banned: map[ban]time.Time{}, kick: make(chan struct{}, 1),
		count: cfg.Metrics.Counter("sallyport_cluster_revocations_total", "Revocations that did not come by the change log, by where from.", "from"),
		waits: cfg.Metrics.Gauge("sallyport_cluster_revocations_pending", "Revocations that take effect and that the store has not been told of.").WithLabelValues(),
	}
	var err error
	if r.pending, err = r.load(); err != nil {
		return nil, err
	}
	for _, c := range r.pending {
		r.ban(c)
	}
	r.waits.Set(float64(len(r.pending)))
	return r, nil
}

// Banned reports whether something is revoked although the store may not say so yet.
func (r *Revoker) Banned(tenant id.Tenant, kind change.Kind, name string) bool {
	if !r.any.Load() { // asked several times for each request
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.banned[ban{tenant, kind, name}]
	return ok
}

// Pending lists what the store has not been told of.
func (r *Revoker) Pending() []change.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pending)
}

// Revoke makes a revocation count that the store does not take now: it is durable on this edge when Revoke returns, in force here
// and told to the other edges that can be reached, of which it returns how many, and is written when the store takes it.
func (r *Revoker) Revoke(ctx context.Context, c change.Change) (peers int, err error) {
	if !slices.Contains(Revocable(), c.Kind) || c.Tenant == "" || c.ID == "" {
		return 0, fault.New(fault.Invalid, "that cannot be revoked while the store is away")
	}
	c.Version = 0
	r.saving.Lock()
	err = r.add(c)
	r.saving.Unlock()
	if err != nil {
		return 0, err
	}
	r.count.WithLabelValues("here").Inc()
	r.cfg.Logger.Warn("revoked here and on the edges that can be reached; the store is told when it can be",
		log.Tenant(c.Tenant), zap.String("kind", string(c.Kind)))
	peers = r.cfg.Tell([]change.Change{c})
	r.enforce(ctx, c)
	return peers, nil
}

// storeAnswers is how long a revocation waits for the store before it takes effect without it.
const storeAnswers = 1500 * time.Millisecond

// Ensure has write put a revocation into the store; where that is away or does not answer in time, Revoke makes it count all the same,
// and pending says so. To write it twice does no harm. Whatever else write fails with is returned as it is.
func (r *Revoker) Ensure(ctx context.Context, c change.Change, write func(ctx context.Context) error) (pending bool, peers int, err error) {
	done := make(chan error, 1)
	go func() { done <- write(context.WithoutCancel(ctx)) }()
	timer := time.NewTimer(storeAnswers)
	defer timer.Stop()
	select {
	case err := <-done:
		if !fault.Is(err, fault.Unavailable) {
			return false, 0, err
		}
	case <-timer.C:
	}
	peers, err = r.Revoke(ctx, c)
	return true, peers, err
}

// add keeps c, first on the disk and then in memory; the caller holds saving.
func (r *Revoker) add(c change.Change) error {
	pending := r.Pending()
	if slices.ContainsFunc(pending, func(o change.Change) bool { return banOf(o) == banOf(c) }) {
		return nil
	}
	ofOne := 0
	for _, o := range pending {
		if o.Tenant == c.Tenant {
			ofOne++
		}
	}
	if len(pending) >= maxPending || ofOne >= maxPendingOfOne {
		return fault.New(fault.Exhausted, "%d revocations wait for the store already, %d of them this clinic's", len(pending), ofOne)
	}
	pending = append(pending, c)
	if err := r.save(pending); err != nil {
		return fault.New(fault.Unavailable, "neither the store nor the disk of this edge takes the revocation").Because(err)
	}
	r.keep(pending)
	r.ban(c)
	return nil
}

func (r *Revoker) keep(pending []change.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = pending
	r.waits.Set(float64(len(pending)))
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *Revoker) ban(c change.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.banned) >= maxBans {
		var oldest ban
		var at time.Time
		for b, since := range r.banned {
			if at.IsZero() || since.Before(at) {
				oldest, at = b, since
			}
		}
		delete(r.banned, oldest)
	}
	r.banned[banOf(c)] = time.Now()
	r.any.Store(true)
}

func (r *Revoker) lift(b ban) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.banned, b)
	r.any.Store(len(r.banned) > 0)
}

func (r *Revoker) enforce(ctx context.Context, c change.Change) {
	ctx, cancel := context.WithTimeout(ctx, enforceLimit)
	defer cancel()
	r.cfg.Enforce(ctx, c)
}

// Committed passes on what this edge has added to the change log.
func (r *Revoker) Committed(changes []change.Change) { r.cfg.Tell(changes) }

// Heard takes what another edge says: revocations take effect now, and for everything the change log is read now. It returns soon;
// what is looked up goes on behind it.
func (r *Revoker) Heard(from id.Edge, changes []change.Change) {
	r.cfg.Kick()
	var now []change.Change
	for _, c := range changes {
		if !slices.Contains(Revocable(), c.Kind) {
			continue
		}
		// A session is in the log only when it has been revoked, or ended early. Of the others the log says more than a name.
		if c.Version == 0 || c.Kind == change.Session {
			r.ban(c)
			r.count.WithLabelValues("peer").Inc()
		}
		now = append(now, c)
	}
	if len(now) == 0 {
		return
	}
	go func() {
		for _, c := range now {
			r.enforce(context.Background(), c)
		}
		r.holdToo(now)
	}()
	r.cfg.Logger.Debug("another edge revoked something", zap.String("edge", string(from)), zap.Int("count", len(now)))
}

// holdToo keeps and writes what the store did not take at another edge, which may not live to do it, and tells it to edges that come later.
// Nobody does so for users: they may be let in again, and an edge that is late would lock them out once more.
func (r *Revoker) holdToo(changes []change.Change) {
	for _, c := range changes {
		if c.Version > 0 || c.Kind == change.User || c.Tenant == "" {
			continue
		}
		r.saving.Lock()
		err := r.add(c)
		r.saving.Unlock()
		if err != nil {
			r.cfg.Logger.Error("a revocation of another edge is in force here, and is forgotten if this edge is started again before it is in the store",
				log.Tenant(c.Tenant), zap.Error(err))
		}
	}
}

// Follow drops what the change log has caught up with. It is a subscriber of change.Follower.
func (r *Revoker) Follow(ctx context.Context, changes []change.Change) error {
	var faults []error
	for _, c := range changes {
		if c.IsAnything() {
			for _, tenant := range r.tenants() {
				faults = append(faults, r.settle(ctx, tenant, c.Kind))
			}
			continue
		}
		faults = append(faults, r.settle(ctx, c.Tenant, c.Kind))
	}
	return errors.Join(faults...)
}

// tenants are those of which something is banned.
func (r *Revoker) tenants() (all []id.Tenant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.banned {
		if !slices.Contains(all, b.tenant) {
			all = append(all, b.tenant)
		}
	}
	return all
}

// settle asks the store about every ban of a tenant and kind: a change of a user may be one from before the ban.
func (r *Revoker) settle(ctx context.Context, tenant id.Tenant, kind change.Kind) error {
	r.mu.Lock()
	var open []ban
	for b := range r.banned {
		if b.tenant == tenant && b.kind == kind {
			open = append(open, b)
		}
	}
	r.mu.Unlock()
	for _, b := range open {
		done, err := r.cfg.Store.Revoked(ctx, change.Change{Tenant: b.tenant, Kind: b.kind, ID: b.id})
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return fmt.Errorf("revocation: %w", err)
		case !done:
			continue
		}
		r.lift(b)
	}
	return nil
}

// Run tells the store of what is pending as soon as it takes it, until ctx ends.
func (r *Revoker) Run(ctx context.Context) error {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		r.write(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.kick:
		}
	}
}

// write gives the store the oldest pending ones until it refuses.
func (r *Revoker) write(ctx context.Context) {
	for _, c := range r.Pending() {
		err := r.cfg.Store.Revoke(ctx, c)
		gone := fault.Is(err, fault.NotFound)
		if err != nil && !gone {
			return // it is tried again; heartbeat and follower say that the store is away
		}
		r.saving.Lock()
		rest := slices.DeleteFunc(r.Pending(), func(o change.Change) bool { return banOf(o) == banOf(c) })
		if err := r.save(rest); err != nil {
			r.cfg.Logger.Error("a revocation is in the store, and will be written once more", zap.Error(err))
		} else {
			r.keep(rest)
		}
		r.saving.Unlock()
		if gone {
			r.lift(banOf(c))
		}
		r.cfg.Logger.Info("revocation written", log.Tenant(c.Tenant), zap.String("kind", string(c.Kind)), zap.Bool("unknown", gone))
	}
}
