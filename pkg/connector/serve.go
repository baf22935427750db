package connector

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// maxExchanges is how many exchanges run at a time; what comes on top is refused at once, before a byte is read.
	maxExchanges = 1024
	// kindTimeout bounds the wait for the first byte of a stream.
	kindTimeout = 10 * time.Second
)

// gate stands between the tunnel and the origin. Nothing is opened towards the origin before an exchange's assertion, its head
// and this connector's own registration agree.
type gate struct {
	identity   Identity
	assertions *assertions
	handler    exchange.Handler
	logger     *zap.Logger
	slots      chan struct{}
	running    *running
	peers      *peers
	once       *once
	refused    *prometheus.CounterVec
	gauge      prometheus.Gauge
}

func newGate(identity Identity, verifier token.Verifier, now func() time.Time, h exchange.Handler, logger *zap.Logger, metrics *metric.Registry) *gate {
	return &gate{
		identity: identity, assertions: newAssertions(verifier, now), handler: h, logger: logger,
		slots: make(chan struct{}, maxExchanges), running: newRunning(), peers: newPeers(metrics), once: newOnce(time.Now),
		refused: metrics.Counter("sallyport_exchange_refused_total", "Exchanges refused before anything reached the origin, by code.", "code"),
		gauge:   metrics.Gauge("sallyport_exchange_running", "Exchanges that run now.").WithLabelValues(),
	}
}

// serve takes exchanges from a link until it ends, and returns when all of them have. What runs is counted in w.
func (g *gate) serve(link *controlclient.Link, w *work) {
	// Streams end with their link; the context ends what the handler does for them.
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	moves, leave := g.peers.join(link, w)
	defer leave()
	handler := g.checked(link.Generation)
	exchanges := newWorkers()
	defer exchanges.end()
	defer func() { cancel(link.Cause()) }() // bodies that moved to another link end for the same reason
	for {
		stream, err := link.Accept(ctx)
		if err != nil {
			return
		}
		select {
		case g.slots <- struct{}{}:
			exchanges.run(func() {
				defer func() { <-g.slots }()
				g.stream(ctx, link, stream, handler, moves, w)
			})
		default:
			g.refused.WithLabelValues("busy").Inc()
			stream.Reset(tunnel.ResetRefused)
		}
	}
}

// stream serves one stream that the edge opened.
func (g *gate) stream(ctx context.Context, link *controlclient.Link, s tunnel.Stream, h exchange.Handler, moves *exchange.Moves, w *work) {
	err := s.SetReadDeadline(time.Now().Add(kindTimeout))
	kind, errKind := wire.ReadKind(s)
	if err = errors.Join(err, errKind); err != nil {
		s.Reset(tunnel.ResetTimeout)
		return
	}
	if kind == wire.StreamContinuation && moves != nil {
		w.begin(&w.in)
		if err := moves.Continuations.Accept(&counted{Stream: s, done: func() { w.in.Add(-1) }}); err != nil {
			g.refused.WithLabelValues("continuation").Inc()
		}
		return
	}
	switch kind {
	case wire.StreamProbe:
		echo(s)
		return
	case wire.StreamBeat:
		if link.Beat(s) != nil {
			s.Reset(tunnel.ResetTimeout)
		}
		return
	}
	if kind != wire.StreamExchange {
		// A continuation that was not negotiated, or a kind that this version does not know.
		g.refused.WithLabelValues(wire.CodeProtocol).Inc()
		s.Reset(tunnel.ResetProtocol)
		return
	}
	w.begin(&w.in) // a probe is no work: links must not be opened for it
	defer w.in.Add(-1)
	w.exchange()
	err = exchange.ServeMoving(ctx, s, h, moves)
	if crashed, ok := errors.AsType[*exchange.PanicError](err); ok {
		g.logger.Error("exchange crashed", zap.Error(err), zap.ByteString("stack", crashed.Stack))
	}
}

// echo answers a probe of the edge: it came as an exchange comes, through Accept and a free slot, and goes back as an answer does.
func echo(s tunnel.Stream) {
	probe := make([]byte, wire.ProbeBytes)
	_, err := io.ReadFull(s, probe)
	if err == nil {
		err = s.SetWriteDeadline(time.Now().Add(kindTimeout))
	}
	if err == nil {
		_, err = s.Write(probe)
	}
	if err != nil || s.CloseWrite() != nil {
		s.Reset(tunnel.ResetTimeout)
		return
	}
	if n, err := s.Read(probe[:1]); n != 0 || !errors.Is(err, io.EOF) {
		s.Reset(tunnel.ResetProtocol)
	}
}

// checked is the handler of one link's exchanges.
type checked struct {
	*gate
	generation uint64
	want       token.Expect // of an assertion
}

var _ exchange.Handler = (*checked)(nil)

func (g *gate) checked(generation uint64) *checked {
	return &checked{gate: g, generation: generation, want: token.Expect{
		Issuer: token.AssertionIssuer, Audience: token.AssertionAudience(g.identity.Connector, generation), Tenant: g.identity.Tenant,
	}}
}

// ServeExchange implements exchange.Handler: check first, then hand over.
func (c *checked) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	claims, err := c.check(&in.Head)
	if err != nil {
		c.refuse(&in.Head, out, err)
		return
	}
	defer c.running.remove(c.running.add(claims, func() {
		out.Abort(wire.CodeRevoked, "access was ended")
		out.Cancel(errRevoked)
	}))
	// A revocation between check and add finds no exchange to end; it has left its mark with the assertions.
	if c.assertions.revoked(claims) {
		c.refuse(&in.Head, out, &refusal{wire.CodeRevoked, errRevoked})
		return
	}
	if err := c.once.admit(&in.Head); err != nil {
		c.refuse(&in.Head, out, &refusal{wire.CodeTunnelDown, err})
		return
	}
	c.gauge.Inc()
	defer c.gauge.Dec()
	c.handler.ServeExchange(ingress.WithPrincipal(ctx, claims.Kind+" "+claims.Subject), in, out)
}

func (c *checked) refuse(head *wire.RequestHead, out *exchange.Answer, err error) {
	code := wire.CodeAssertion
	var r *refusal
	if errors.As(err, &r) {
		code = r.code
	}
	out.Abort(code, "this connector does not accept the exchange")
	c.refused.WithLabelValues(code).Inc()
	c.logger.Warn("exchange refused", log.RequestID(id.Request(head.RequestID)), zap.String("code", code), zap.Error(err))
}

// refusal is an error with the code that the edge gets.
type refusal struct {
	code  string
	cause error
}

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

var errRevoked = errors.New("session or principal was revoked")

// check judges an exchange by its head: pure but for the caches of the assertions. The order is by cost.
func (c *checked) check(head *wire.RequestHead) (token.Claims, error) {
	no := func(code, why string) (token.Claims, error) {
		return token.Claims{}, &refusal{code, errors.New(why)}
	}
	switch {
	case head.Tenant != string(c.identity.Tenant) || head.Site != string(c.identity.Site):
		return no(wire.CodeAssertion, "head names another tenant or site")
	case head.Generation != c.generation:
		return no(wire.CodeAssertion, "head is meant for another generation")
	case head.App == "" || head.Assertion == "":
		return no(wire.CodeAssertion, "head without app or assertion")
	case !canonicalHost(head.Host):
		return no(wire.CodeProtocol, "host is not canonical")
	case !canonicalTarget(head):
		return no(wire.CodeProtocol, "target is not canonical")
	}
	claims, err := c.assertions.verify(head.Assertion, c.want)
	switch {
	case err != nil:
		return token.Claims{}, &refusal{wire.CodeAssertion, err}
	case c.assertions.revoked(claims):
		return token.Claims{}, &refusal{wire.CodeRevoked, errRevoked}
	case claims.Connector != c.identity.Connector || claims.Generation != c.generation || string(claims.Site) != head.Site || string(claims.App) != head.App:
		return no(wire.CodeAssertion, "assertion and head disagree")
	}
	return claims, nil
}

// canonicalTarget reads the target once more, by the same rules as the edge: what has two readings does not pass, whoever
// signed for it.
func canonicalTarget(head *wire.RequestHead) bool {
	return urlpath.Target{Path: head.Path, RawQuery: head.RawQuery, HasQuery: head.HasQuery}.Canonical()
}

func canonicalHost(host string) bool {
	name := host
	if strings.Contains(host, ":") { // most have no port, which SplitHostPort would make an error of
		if h, port, err := net.SplitHostPort(host); err == nil {
			name = h
			if port == "" || strings.Trim(port, "0123456789") != "" {
				return false
			}
		}
	}
	canonical, err := route.CanonicalHost(name)
	return err == nil && canonical == name
}

// revoke acts on the edge's word: what is cached is forgotten, what runs is ended, what comes is refused.
func (g *gate) revoke(r *tunnelv1.Revoke) {
	g.assertions.revoke(r)
	g.running.end(r)
}

func (g *gate) count() int { return g.running.count() }

// idle waits until no exchange runs and none is expected, or ctx ends, and returns how many are left.
func (g *gate) idle(ctx context.Context, expected func() bool) int {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	quiet := 0
	for {
		// The edge may have sent an exchange before it read that this connector stops: one quiet moment is not enough.
		if quiet++; g.count() > 0 || expected() {
			quiet = 0
		}
		if quiet > 5 {
			return 0
		}
		select {
		case <-ctx.Done():
			return g.count()
		case <-ticker.C:
		}
	}
}
