// Package proxy owns HTTP over an exchange, on the edge's side: a request that was judged becomes a head and a body on a
// link, and what comes back becomes the browser's answer, whole or visibly broken. It decides nothing about who may do what,
// chooses no app by host or path, and opens no socket; the origin's side is package ingress.
package proxy

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/web"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Picker chooses the link to a site, waiting a bounded time for one; *registry.Registry is it for an edge alone, a
// *cluster.Forwarder for one of several.
type Picker interface {
	Pick(ctx context.Context, tenant id.Tenant, site id.Site, stick string) (*registry.Member, error)
}

// Pages writes what a person or a script sees instead of an answer; *web.Pages is it.
type Pages interface {
	Error(w http.ResponseWriter, r *http.Request, p web.Problem)
	TooBig(w http.ResponseWriter, r *http.Request, d web.Door)
}

var (
	_ Picker = (*registry.Registry)(nil)
	_ Pages  = (*web.Pages)(nil)
)

// Config is what a Proxy needs.
type Config struct {
	Registry Picker
	Pages    Pages
	// Logger gets a line for each exchange that did not come to a whole answer; nil means none.
	Logger *zap.Logger
	// Metrics may be nil.
	Metrics *metric.Registry
	// HeadBudget is how many bytes of request line and fields may reach the origin; 0 means DefaultHeadBudget.
	HeadBudget int
	// Again is how long after it was sent over an edge that has gone a request may be sent again; 0 means DefaultAgain, and more must
	// not be: the connector forgets it.
	Again time.Duration
}

// DefaultAgain leaves time to find an edge dead (3.5 s) on a busy machine. A connector remembers a request for that long and for as long
// as the assertions of both copies hold.
const DefaultAgain = 10 * time.Second

// DefaultHeadBudget leaves room under the 8 KiB that Tomcat takes for a request's line and fields together.
const DefaultHeadBudget = 7 << 10

// Proxy carries judged requests to connectors. Its methods may be called from several goroutines.
type Proxy struct {
	picker    Picker
	pages     Pages
	logger    *zap.Logger
	budget    int
	again     time.Duration
	buffers   hop.Buffers
	exchanges atomic.Uint64
	metrics   *metrics
}

// New returns a Proxy.
func New(cfg Config) *Proxy {
	p := &Proxy{picker: cfg.Registry, pages: cfg.Pages, logger: cfg.Logger, budget: cfg.HeadBudget, again: cfg.Again}
	if p.logger == nil {
		p.logger = zap.NewNop()
	}
	if p.budget == 0 {
		p.budget = DefaultHeadBudget
	}
	if p.again == 0 {
		p.again = DefaultAgain
	}
	if cfg.Metrics != nil {
		p.metrics = newMetrics(cfg.Metrics)
	}
	return p
}

// Passage is one request that may pass: everything about it that was decided, as values.
type Passage struct {
	Tenant tenant.Tenant
	App    tenant.App
	// Target is the canonical target that was matched, judged and recorded.
	Target urlpath.Target
	// Host is the public host as the origin shall see it, with the port if browsers need one.
	Host      string
	RequestID id.Request
	// ClientIP is the one address that the origin is told.
	ClientIP string
	// Assertions mints what tells the connector and the origin who is asking.
	Assertions func(connector id.Connector, generation uint64) (assertion, origin string, err error)
	// Stick keeps the requests of one session on one connector; empty for none.
	Stick string
	// Conclude, if set, is called exactly once with what Carry returns, also when Carry then breaks the connection by
	// panicking.
	Conclude func(Result)
}

// Result is what became of a passage.
type Result struct {
	// Status is what the browser was told; 0 if nothing.
	Status int
	// BytesIn and BytesOut count the bodies; after 101, the bytes of the connection.
	BytesIn, BytesOut int64
	// ErrorCode is empty for a whole answer, else one of wire's codes.
	ErrorCode string
}

// metrics are the proxy's; durations run to the end of the answer's body.
type metrics struct {
	exchanges *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	in, out   prometheus.Counter // bytes
}

func newMetrics(r *metric.Registry) *metrics {
	bytes := r.Counter("sallyport_proxy_body_bytes_total", "Bytes of bodies carried.", "direction")
	return &metrics{
		exchanges: r.Counter("sallyport_proxy_exchanges_total",
			"Requests carried to connectors, by class of status or error code.", "result"),
		seconds: r.Histogram("sallyport_proxy_exchange_seconds", "Time from a judged request to the end of its answer.",
			[]float64{.005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}, "result"),
		in: bytes.WithLabelValues("in"), out: bytes.WithLabelValues("out"),
	}
}

func (m *metrics) note(r Result, took time.Duration) {
	if m == nil {
		return
	}
	result := r.ErrorCode
	if result == "" {
		result = strconv.Itoa(r.Status/100) + "xx"
	}
	m.exchanges.WithLabelValues(result).Inc()
	if r.Status != http.StatusSwitchingProtocols {
		m.seconds.WithLabelValues(result).Observe(took.Seconds())
	}
	m.in.Add(float64(r.BytesIn))
	m.out.Add(float64(r.BytesOut))
}

// known keeps a code from the far side of a link within wire's set, for labels and pages.
func known(code string) string {
	switch code {
	case wire.CodeNotHere:
		return wire.CodeTunnelDown // to a browser it is the same
	case "", wire.CodeTunnelDown, wire.CodeOriginRefused, wire.CodeOriginTLS, wire.CodeOriginTimeout, wire.CodeOriginBusy, wire.CodeOriginProtocol,
		wire.CodeOriginAbort, wire.CodeClientAbort, wire.CodeDenied, wire.CodeNoRule, wire.CodeAssertion, wire.CodeRevoked,
		wire.CodeProtocol, wire.CodeTooLarge:
		return code
	}
	return wire.CodeInternal
}
