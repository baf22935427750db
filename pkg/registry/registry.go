// Package registry owns who serves which site now: the links that are up, by tenant, site, connector and generation, and
// which of them takes the next exchange. It admits nobody: who may join was proved to control before. It keeps nothing
// on disk, and carries no exchange itself.
package registry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Config is what a registry needs. The zero value of a field is its documented default.
type Config struct {
	// Wait is how long Pick waits for a link of a site that has none; default 5 s.
	Wait time.Duration
	// Waiters is how many calls may wait for one site at a time; default 64.
	Waiters int
	// Drain is how long links of a superseded generation may finish what they carry; default 30 s.
	Drain time.Duration
	// Sticky is how many keys are remembered with the connector that served them last; default 65,536.
	Sticky int
	Logger *zap.Logger
	// Metrics may be nil.
	Metrics *metric.Registry
	// Alarm is called, outside any lock, when a connector's key turns out to be in use twice; nil for the log alone.
	Alarm func(Alarm)
	// MoveThreshold is exchange.Moves.Threshold: how large a body is left on the fast lane, in bytes; 0 for the default.
	MoveThreshold int64
	// Presence keeps what TakePresence tells; whoever sets it must take it.
	Presence bool
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Member is one link that is up.
type Member struct {
	Tenant     id.Tenant
	Site       id.Site
	Connector  id.Connector
	Generation uint64
	// Instance names one run of one connector process.
	Instance string
	Lane     tunnelv1.Lane
	Link     tunnel.Link
	// Moved says that both ends of the link named wire.FeatureMoved.
	Moved bool
	// Hop is 1 for a link to another edge, which has the link of the connector; else 0.
	Hop uint32
	// Missed, if set, is told that an exchange did not get as far as the connector.
	Missed func()
	// Again, if set, returns another way to the same run, within a second and a half or nil, for an exchange of which nobody can say
	// how far it got because the link has ended: with wire.RequestHead.Again the run serves it at most once.
	Again func(ctx context.Context) *Member
	// Once says that the connector named wire.FeatureOnce.
	Once bool
	// Probed says that the link's exchange path is probed (Proved) when no exchange shows that it works.
	Probed bool
	// Prove, if set, has a probe sent soon that was not sent before, and Proved called when it has come back. It must neither block
	// nor call the registry.
	Prove func()
	// Control sends a control message on the link; nil where it cannot take any. It must not block for long.
	Control func(*tunnelv1.Control) error

	group *group
	use   *use // nil outside a registry
}

// use is what exchanges tell of the link that they run on.
type use struct {
	running  atomic.Int64
	answered atomic.Int64 // when the last answer began or a probe was answered, Unix nanoseconds; 0: never
	trip     atomic.Int64 // how long the last probe took, nanoseconds
	quiet    atomic.Bool  // a probe is out for too long, and no answer of an exchange has come since
	now      func() time.Time
	loud     func() // tells the others that the link is quiet no more
}

// answer notes a round trip and reports whether the link was quiet.
func (u *use) answer() (wasQuiet bool) {
	u.answered.Store(u.now().UnixNano())
	return u.quiet.Load() && u.quiet.Swap(false)
}

// Begin counts an exchange that starts on the link; End must be called once when it is over. Pick spreads by these numbers.
func (m *Member) Begin() {
	if m.use != nil {
		m.use.running.Add(1)
	}
}

// Answered notes that the answer to an exchange has begun: the link works.
func (m *Member) Answered() {
	if m.use != nil && m.use.answer() {
		m.use.loud()
	}
}

// End is the end of what Begin began.
func (m *Member) End() {
	if m.use != nil {
		m.use.running.Add(-1)
	}
}

// NotThere notes that an exchange did not get as far as the connector.
func (m *Member) NotThere() {
	if m.Missed != nil {
		m.Missed()
	}
}

// Open starts a stream to the connector; it is what exchange wants of a link.
func (m *Member) Open(ctx context.Context) (tunnel.Stream, error) { return m.Link.Open(ctx) }

func (m *Member) alive() bool {
	select {
	case <-m.Link.Done():
		return false
	default:
		return true
	}
}

// place is a site; the tenant comes first, as in every key.
type place struct {
	tenant id.Tenant
	site   id.Site
}

// member is a Member in the registry.
type member struct {
	*Member
	joined time.Time
	// superseded ends the link when a newer generation has taken over; nil while this is the newest.
	superseded *time.Timer
	// leaving is set when the connector said that it stops: it finishes what it has and takes nothing new.
	leaving bool
	// outdone is set when another edge has a newer generation.
	outdone bool
	// doubted is since when the link has to prove that it works; zero: it need not.
	doubted time.Time
	// asked is when a probe was asked for because exchanges wait.
	asked  time.Time
	health []*tunnelv1.OriginHealth
	heard  time.Time
	// alone is, for a bulk link, since when it may have been the only one of its connector.
	alone time.Time
}

// site is what is known of one place.
type site struct {
	members []*member
	waiters int
	changed chan struct{} // closed and replaced whenever a member joins, or is in doubt no more
	next    int           // whose turn it is among the equally loaded
}

// Registry is safe for concurrent use.
type Registry struct {
	cfg   Config
	links *prometheus.GaugeVec
	twice *prometheus.CounterVec
	moved *exchange.Metrics

	mu    sync.Mutex // guards all below; nothing is called under it that can block
	sites map[place]*site
	runs  map[id.Connector]*runs
	group map[groupKey]*group
	stick *sticky
	swept time.Time
	count count

	presence presence
}

// New returns an empty registry.
func New(cfg Config) *Registry {
	cfg.Wait = orDefault(cfg.Wait, 5*time.Second)
	cfg.Drain = orDefault(cfg.Drain, 30*time.Second)
	cfg.Waiters = orDefault(cfg.Waiters, 64)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	return &Registry{
		cfg:   cfg,
		links: cfg.Metrics.Gauge("sallyport_registry_links", "Links of connectors, whether or not a round trip succeeded lately.", "transport"),
		twice: cfg.Metrics.Counter("sallyport_registry_copied_keys_total", "Times that a connector's key was seen in use twice.", "action"),
		sites: map[place]*site{},
		runs:  map[id.Connector]*runs{},
		group: map[groupKey]*group{},
		moved: exchange.NewMetrics(cfg.Metrics),
		stick: newSticky(orDefault(cfg.Sticky, 1<<16)),
		count: count{of: map[id.Connector]int{}},

		presence: newPresence(),
	}
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// Join adds a link. leave takes it out again and must be called once, when the link has ended. A link of a generation older
// than one that is up, or of a frozen connector, is refused with fault.Conflict or fault.Denied. Links of older generations
// take no exchange from now on and are closed after Drain.
func (r *Registry) Join(m Member) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.runs[m.Connector]; known != nil && known.frozen != "" {
		return nil, fault.New(fault.Denied, "this connector is frozen: %s", known.frozen)
	}
	where := place{m.Tenant, m.Site}
	s := r.sites[where]
	if s == nil {
		s = &site{changed: make(chan struct{})}
		r.sites[where] = s
	}
	for _, other := range s.members {
		if other.Connector == m.Connector && other.Generation > m.Generation && other.alive() {
			r.forgetIfEmpty(where, s)
			return nil, fault.New(fault.Conflict, "a newer run of this connector is connected")
		}
	}
	r.supersede(s, m)
	m.group = r.enter(&m)
	m.use = &use{now: r.cfg.Now, loud: func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stir(where, m.Connector)
	}}
	now := r.cfg.Now()
	one := &member{Member: &m, joined: now, heard: now, alone: now}
	s.members = append(s.members, one)
	s.askSiblings(one)
	r.count.add(m.Connector, 1)
	s.stirred()
	r.stir(where, m.Connector)
	transport := m.Link.Info().Transport
	r.links.WithLabelValues(transport).Inc()
	var once sync.Once
	return func() {
		once.Do(func() {
			r.links.WithLabelValues(transport).Dec()
			r.leave(where, one)
		})
	}, nil
}

// supersede starts the end of older generations. No wait is unbounded: a link that still carries something after Drain is
// closed all the same.
func (r *Registry) supersede(s *site, m Member) {
	for _, other := range s.members {
		if other.Connector != m.Connector || other.Generation >= m.Generation || other.superseded != nil {
			continue
		}
		link := other.Link
		other.superseded = time.AfterFunc(r.cfg.Drain, func() {
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonSuperseded, Message: "a newer run of this connector has taken over"})
		})
		r.cfg.Logger.Info("connector superseded: its older run drains", log.Tenant(m.Tenant), log.Site(m.Site),
			log.Connector(m.Connector), zap.Uint64("generation", other.Generation), zap.Uint64("by", m.Generation))
		r.giveUp(other)
	}
}

func (r *Registry) leave(where place, one *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one.superseded != nil {
		one.superseded.Stop()
	}
	r.exit(one.Member)
	r.stir(where, one.Connector)
	s := r.sites[where]
	for i, other := range s.members {
		if other == one {
			s.members = append(s.members[:i], s.members[i+1:]...)
			r.count.add(one.Connector, -1)
			break
		}
	}
	r.goneFast(s, one)
	if brokeOff(one.Link) {
		r.suspectRest(where, s, one)
	}
	r.forgetIfEmpty(where, s)
}

// goneFast starts the time anew for which bulk links wait for a fast one.
func (r *Registry) goneFast(s *site, gone *member) {
	for _, m := range s.members {
		if gone.fast() && m.Connector == gone.Connector {
			m.alone = r.cfg.Now()
		}
	}
}

func (r *Registry) forgetIfEmpty(where place, s *site) {
	if len(s.members) == 0 && s.waiters == 0 {
		delete(r.sites, where)
	}
}

// CloseConnector closes every link of a connector and returns when they are closed, at most about a second later.
func (r *Registry) CloseConnector(connector id.Connector, reason tunnel.Reason) {
	r.mu.Lock()
	var links []tunnel.Link
	for _, s := range r.sites {
		for _, m := range s.members {
			if m.Connector == connector {
				links = append(links, m.Link)
			}
		}
	}
	r.mu.Unlock()
	closeAll(links, reason)
}

func closeAll(links []tunnel.Link, reason tunnel.Reason) {
	var wg sync.WaitGroup
	for _, link := range links {
		wg.Go(func() { _ = link.Close(reason) })
	}
	wg.Wait()
}
