// Package controlserver owns the edge's side of a link: admitting it (hello, mutual proof over nonces and the TLS
// exporter, generation), its control stream while it lives, and enrolment over HTTP. It neither listens nor carries
// exchanges, and decides about no request.
//
//	connector                                        edge
//	kind 1, Hello{versions, instance, connector, nonce} →
//	                             ← Hello{version, edge time, nonce}
//	Register{proof over the edge's nonce + exporter} →
//	                             ← Registered{generation, proof over the connector's nonce + exporter, key sets}
//	Heartbeat (this link takes exchanges now)        →
//	                             ← HeartbeatAck … Revoke, KeySet, Configuration, Drain, Goodbye
//
// Until the proof has been checked a link is held to one stream, 16 KiB and 5 seconds, and is told nothing but that it is
// refused: whether a connector exists, is revoked or frozen is for those who hold its key.
package controlserver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// ExporterLabel is the label of the keying material that both proofs are made over (RFC 8446 §7.5).
const ExporterLabel = "EXPORTER-sallyport-link"

// Defaults of Config.
const (
	DefaultHandshake = 5 * time.Second
	DefaultHeartbeat = 3 * time.Second
	DefaultPending   = 256
)

// Too many in their handshake: each that comes too late is told a time of its own in this range, so that they do not come
// back together.
const (
	soonestRetry = time.Second
	latestRetry  = 5 * time.Second
)

// proofBytes is the length of nonces and of the exporter's output.
const proofBytes = 32

// Config is what a Server needs.
type Config struct {
	Keyring  *token.Keyring
	Enroll   enroll.Store
	Registry *registry.Registry
	// Ingress keeps the rules that connectors are sent; nil for none.
	Ingress tenant.IngressStore
	// Revoked reports whether a connector is revoked although the store may not say so yet; nil: none is.
	Revoked func(tenant id.Tenant, connector id.Connector) bool
	// Handshake is how long a link may take until it is admitted; default 5 s.
	Handshake time.Duration
	// Heartbeat is how often connectors are told to send one, those whose heartbeats go the way of exchanges half as often, because
	// one of theirs is a probe, too; a link without any for ten times as long is closed. Default 3 s.
	Heartbeat time.Duration
	// Pending is how many links may be in their handshake at a time; default 256. See DESIGN.md.
	Pending int
	// Now is the clock; default time.Now.
	Now    func() time.Time
	Logger *zap.Logger
	// Metrics may be nil.
	Metrics *metric.Registry
}

// Server admits links and speaks with them. It is safe for concurrent use.
type Server struct {
	cfg      Config
	enroll   *enroll.Service
	instance string
	decoy    ed25519.PublicKey // whose private half nobody has: checked in place of an unknown connector's
	pending  chan struct{}     // a slot per link in its handshake
	results  *prometheus.CounterVec
	sources  *sources
	ingress  ingressRules

	edges edgeList

	mu       sync.Mutex // guards all below
	links    map[tunnel.Link]struct{}
	draining bool
}

// New returns a server.
func New(cfg Config) *Server {
	cfg.Handshake = orDefault(cfg.Handshake, DefaultHandshake)
	cfg.Heartbeat = orDefault(cfg.Heartbeat, DefaultHeartbeat)
	cfg.Pending = orDefault(cfg.Pending, DefaultPending)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	instance := make([]byte, 16)
	_, _ = rand.Read(instance)              // never fails: it ends the process instead
	decoy, _, _ := ed25519.GenerateKey(nil) // crypto/rand: never fails
	s := &Server{
		cfg: cfg, decoy: decoy, enroll: enroll.NewService(cfg.Enroll, cfg.Now), instance: hex.EncodeToString(instance),
		pending: make(chan struct{}, cfg.Pending), links: map[tunnel.Link]struct{}{}, sources: newSources(),
		results: cfg.Metrics.Counter("sallyport_control_links_total", "Links that connectors opened, by what became of them.", "result"),
	}
	s.ingress = ingressRules{
		store: cfg.Ingress, now: cfg.Now, of: map[id.Connector]*Ingress{},
		answers: cfg.Metrics.Counter("sallyport_ingress_answers_total", "Answers of connectors to ingress rules that were sent to them.", "result"),
	}
	return s
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// ServeLink admits the link and serves its control stream until the link ends; then everything that belonged to it is gone.
// ctx ending closes the link. The error says why a link was not admitted, for the caller's log; the end of an admitted link
// is logged here and is no error.
func (s *Server) ServeLink(ctx context.Context, link tunnel.Link) error {
	if err := s.enter(link); err != nil {
		s.results.WithLabelValues("refused").Inc()
		return err
	}
	defer s.exit(link)
	stop := context.AfterFunc(ctx, func() { _ = link.Close(shutdownReason()) })
	defer stop()

	var a *admission
	var err error
	apart(func() { a, err = s.letIn(ctx, link) })
	if err != nil {
		return err
	}
	s.serve(ctx, a)
	return nil
}

// letIn admits the link, or refuses it and says goodbye.
func (s *Server) letIn(ctx context.Context, link tunnel.Link) (*admission, error) {
	a, err := s.admit(ctx, link)
	<-s.pending
	if err != nil {
		if a.leave != nil {
			a.leave()
		}
		return nil, s.refuse(link, a, err)
	}
	s.results.WithLabelValues("admitted").Inc()
	return a, nil
}

// apart runs f in a goroutine of its own and waits for it. A stack that f makes grow would be the caller's for as long as that
// lives: the runtime halves one only while less than a quarter of it is in use, and what waits on a link uses more than that of
// the smallest.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func shutdownReason() tunnel.Reason {
	return tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the edge stops"}
}

// enter counts a link in, unless the edge drains or too many are in their handshake.
func (s *Server) enter(link tunnel.Link) error {
	s.mu.Lock()
	draining := s.draining
	if !draining {
		s.links[link] = struct{}{}
	}
	s.mu.Unlock()
	if draining {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonDrain, Message: "the edge stops", RetryAfter: time.Second})
		return errors.New("link refused: draining")
	}
	select {
	case s.pending <- struct{}{}:
		return nil
	default:
		s.exit(link)
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonRefused, Message: "too many links are being opened", RetryAfter: retryAfter()})
		return fmt.Errorf("link refused: %d in their handshake", s.cfg.Pending)
	}
}

func retryAfter() time.Duration { return soonestRetry + mathrand.N(latestRetry-soonestRetry) }

func (s *Server) exit(link tunnel.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, link)
}

// refuse says goodbye to a link that was not admitted.
func (s *Server) refuse(link tunnel.Link, a *admission, err error) error {
	s.results.WithLabelValues("refused").Inc()
	var no *refusal
	if !errors.As(err, &no) {
		no = &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the link was not opened as agreed"}}
	}
	if a.control != nil {
		_ = a.control.goodbye(no.code(), no.Reason)
	}
	_ = link.Close(no.Reason)
	remote := "unknown"
	if addr := link.Info().Remote; addr != nil {
		remote = addr.String()
	}
	return fmt.Errorf("link from %s refused: connector %.64q: %w", remote, a.connector.ID, err)
}

// Drain asks every connector to open links elsewhere and takes no new link. Links stay up for what they carry until Close.
func (s *Server) Drain(within time.Duration) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.cfg.Registry.Broadcast("", drainMessage(within))
}

// Close closes every link with the reason that the edge stops. It returns within about a second.
func (s *Server) Close() {
	s.mu.Lock()
	s.draining = true
	links := make([]tunnel.Link, 0, len(s.links))
	for link := range s.links {
		links = append(links, link)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, link := range links {
		wg.Go(func() { _ = link.Close(shutdownReason()) })
	}
	wg.Wait()
}

func (s *Server) logger(a *admission) *zap.Logger {
	return s.cfg.Logger.With(log.Tenant(a.connector.Tenant), log.Site(a.connector.Site), log.Connector(a.connector.ID),
		zap.Uint64("generation", a.generation), zap.String("transport", a.link.Info().Transport))
}
