package guard

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// LimitConfig bounds what is let in at once. Zero fields mean DefaultLimits.
type LimitConfig struct {
	// Connections is for TCP and for UDP each, of connectors and browsers together: a connector has one of each to an edge while it is
	// idle. Each over TCP is an open file (LimitNOFILE), and takes some 100 KiB.
	Connections          int `conf:"connections" help:"open connections of a listener"`
	ConnectionsPerSource int `conf:"connections_per_source" help:"open connections of one address (IPv6: one /64)"`
	InFlight             int `conf:"in_flight" help:"requests at work at once"`
	PerTenant            int `conf:"per_tenant" help:"requests at work at once for one tenant, WebSockets included"`
	// Of requests by nobody known, for one source:
	StrangerInFlight int `conf:"stranger_in_flight" help:"unauthenticated requests at work at once from one source"`
	StrangerRate     int `conf:"stranger_rate" help:"unauthenticated requests per second from one source"`
	StrangerBurst    int `conf:"stranger_burst" help:"unauthenticated requests that one source may make at once"`
	// Sources is how many sources are told apart; those beyond share one account.
	Sources int `conf:"sources" help:"sources that are told apart"`
}

// DefaultLimits leaves a whole clinic behind one address enough for a Monday morning.
func DefaultLimits() LimitConfig {
	return LimitConfig{
		Connections: 10_000, ConnectionsPerSource: 1_024, InFlight: 20_000, PerTenant: 4_000,
		StrangerInFlight: 128, StrangerRate: 50, StrangerBurst: 400, Sources: 65_536,
	}
}

// Validate finds every fault at once.
func (c LimitConfig) Validate() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value int
	}{
		{"connections", c.Connections},
		{"connections_per_source", c.ConnectionsPerSource},
		{"in_flight", c.InFlight},
		{"per_tenant", c.PerTenant},
		{"stranger_in_flight", c.StrangerInFlight},
		{"stranger_rate", c.StrangerRate},
		{"stranger_burst", c.StrangerBurst},
		{"sources", c.Sources},
	} {
		if f.value < 0 || f.value > maxLimit {
			faults = append(faults, fmt.Errorf("limits.%s: %d: use 1 to %d, or 0 for the default", f.key, f.value, maxLimit))
		}
	}
	return errors.Join(faults...)
}

const maxLimit = 1_000_000

func (c LimitConfig) withDefaults() LimitConfig {
	d := DefaultLimits()
	for _, f := range []struct{ have, otherwise *int }{
		{&c.Connections, &d.Connections},
		{&c.ConnectionsPerSource, &d.ConnectionsPerSource},
		{&c.InFlight, &d.InFlight},
		{&c.PerTenant, &d.PerTenant},
		{&c.StrangerInFlight, &d.StrangerInFlight},
		{&c.StrangerRate, &d.StrangerRate},
		{&c.StrangerBurst, &d.StrangerBurst},
		{&c.Sources, &d.Sources},
	} {
		if *f.have <= 0 {
			*f.have = *f.otherwise
		}
	}
	return c
}

// Limits counts what is at work. It is safe for concurrent use.
type Limits struct {
	cfg     LimitConfig
	now     func() time.Time
	memory  *memory
	refused *prometheus.CounterVec

	inFlight atomic.Int64

	mu      sync.RWMutex // guards the map, not the counters in it
	tenants map[id.Tenant]*atomic.Int64

	strangers *sources
}

// NewLimits returns Limits with nothing at work. now nil means time.Now; metrics may be nil.
func NewLimits(cfg LimitConfig, now func() time.Time, metrics *metric.Registry) *Limits {
	cfg = cfg.withDefaults()
	if now == nil {
		now = time.Now
	}
	if metrics == nil {
		metrics = metric.New()
	}
	return &Limits{
		cfg: cfg, now: now, memory: newMemory(now), tenants: map[id.Tenant]*atomic.Int64{},
		refused:   metrics.Counter("sallyport_guard_refused_total", "Connections and requests that found a limit reached.", "limit"),
		strangers: newSources(cfg, now),
	}
}

// Ticket is a place among what is at work. The zero value holds none.
type Ticket struct{ counters [2]*atomic.Int64 }

// Release gives the place back; once.
func (t Ticket) Release() {
	for _, c := range t.counters {
		if c != nil {
			c.Add(-1)
		}
	}
}

// Admit takes a place for a request to one of a tenant's hosts; tenant is empty for the edge's own host. It comes first,
// before anything is read or looked up, and is released when the answer is over.
func (l *Limits) Admit(tenant id.Tenant) (Ticket, *Refusal) {
	if l.memory.above(shedAt) {
		return Ticket{}, l.busy("memory", http.StatusServiceUnavailable)
	}
	if !take(&l.inFlight, l.cfg.InFlight) {
		return Ticket{}, l.busy("in-flight", http.StatusServiceUnavailable)
	}
	t := Ticket{counters: [2]*atomic.Int64{&l.inFlight}}
	if tenant == "" {
		return t, nil
	}
	c := l.tenant(tenant)
	if !take(c, l.cfg.PerTenant) {
		t.Release()
		return Ticket{}, l.busy("tenant", http.StatusServiceUnavailable)
	}
	t.counters[1] = c
	return t, nil
}

// AdmitStranger takes a place, and one of the requests per second, for a request by nobody known. remote is
// http.Request.RemoteAddr; whoever has none shares one account.
func (l *Limits) AdmitStranger(remote string) (Ticket, *Refusal) {
	c, ok := l.strangers.take(sourceOf(remote))
	if !ok {
		return Ticket{}, l.busy("stranger", http.StatusTooManyRequests)
	}
	return Ticket{counters: [2]*atomic.Int64{c}}, nil
}

func (l *Limits) busy(limit string, status int) *Refusal {
	l.refused.WithLabelValues(limit).Inc()
	return &Refusal{Status: status, Code: CodeBusy, Reason: limit, RetryAfter: 2 * time.Second}
}

// tenant returns the counter of a tenant. Tenants come from the route table, which bounds their number.
func (l *Limits) tenant(t id.Tenant) *atomic.Int64 {
	l.mu.RLock()
	c := l.tenants[t]
	l.mu.RUnlock()
	if c != nil {
		return c
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c = l.tenants[t]; c == nil {
		c = &atomic.Int64{}
		l.tenants[t] = c
	}
	return c
}

func take(c *atomic.Int64, limit int) bool {
	if c.Add(1) > int64(limit) {
		c.Add(-1)
		return false
	}
	return true
}
