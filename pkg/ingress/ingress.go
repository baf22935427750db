// Package ingress owns the connector's side of the origin: the rules that say which origin serves a host and path, the
// connections to it, what OSCAR needs that other servers do not, and whether the origin is well. It is handed exchanges
// whose assertion was checked already; it does not know who is asking, and a request never chooses where it goes.
package ingress

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Config is what an Ingress needs.
type Config struct {
	// Rules come from Load.
	Rules *Rules
	// Logger gets one line per exchange that fails at the origin; nil means none.
	Logger *zap.Logger
	// Metrics may be nil.
	Metrics *metric.Registry
	// Now is time.Now unless a test says otherwise.
	Now func() time.Time
}

// Ingress carries exchanges to origins.
type Ingress struct {
	current atomic.Pointer[table]
	logger  *zap.Logger
	now     func() time.Time
	buffers hop.Buffers
	answers *prometheus.CounterVec

	swapping sync.Mutex    // one Swap at a time
	swapped  chan struct{} // tells Run
}

var _ exchange.Handler = (*Ingress)(nil)

// New returns an Ingress. It dials nothing until the first exchange or Run.
func New(cfg Config) *Ingress {
	in := &Ingress{logger: cfg.Logger, now: cfg.Now, swapped: make(chan struct{}, 1)}
	if in.logger == nil {
		in.logger = zap.NewNop()
	}
	if in.now == nil {
		in.now = time.Now
	}
	if cfg.Metrics != nil {
		in.answers = cfg.Metrics.Counter("sallyport_origin_answers_total",
			"Exchanges by how the origin answered: class of status, or error code.", "rule", "result")
	}
	in.current.Store(in.assemble(cfg.Rules, &table{}))
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(collector{in})
	}
	return in
}

// Rules returns the rules that are in force.
func (in *Ingress) Rules() *Rules { return in.current.Load().rules }

// Close drops the kept connections; running exchanges go on.
func (in *Ingress) Close() {
	for _, o := range in.current.Load().origins {
		o.close()
	}
}

// ServeExchange implements exchange.Handler. Every way out of it ends the answer: whole, or broken off with a code.
func (in *Ingress) ServeExchange(ctx context.Context, x *exchange.Incoming, out *exchange.Answer) {
	t := in.current.Load()
	rule, index := t.rules.Match(x.Head.Host, x.Head.Path)
	var err error
	var status int
	switch {
	case rule.Origin == nil:
		status, err = rule.Status, out.Head(wire.ResponseHead{Status: rule.Status, ErrorCode: wire.CodeNoRule})
		if err == nil {
			err = out.End(nil)
		}
	case rule.denies(x.Head.Path, x.Head.RawQuery):
		err = fail(wire.CodeDenied, "this page is never served from outside the clinic", nil)
	default:
		status, err = in.carry(ctx, t.groups[index], rule, x, out)
	}
	result := strconv.Itoa(status/100) + "xx"
	if err != nil {
		f := classify(ctx, err)
		out.Abort(f.code, f.message)
		result = f.code
		in.report(x, rule, f)
	}
	if in.answers != nil {
		in.answers.WithLabelValues(rule.Name(), result).Inc()
	}
}

// report writes what failed to the log; that a browser went away is no fault.
func (in *Ingress) report(x *exchange.Incoming, rule *Rule, f *failure) {
	level := zap.WarnLevel
	if f.code == wire.CodeClientAbort || f.code == wire.CodeDenied {
		level = zap.DebugLevel
	}
	why := zap.Skip()
	if f.cause != nil {
		why = zap.String("error", log.Unquoted(f.cause.Error())) // net/http repeats what it cannot read of an answer
	}
	if entry := in.logger.Check(level, "exchange failed at the origin"); entry != nil {
		entry.Write(log.RequestID(id.Request(x.Head.RequestID)), log.Tenant(id.Tenant(x.Head.Tenant)),
			log.Site(id.Site(x.Head.Site)), log.App(id.App(x.Head.App)), zap.String("rule", rule.Name()),
			zap.String("code", f.code), why)
	}
}
