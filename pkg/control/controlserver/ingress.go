package controlserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// offerTimeout bounds the look-up of rules for one link.
	offerTimeout = 2 * time.Second
	// maxReason bounds what is kept of why a connector refused rules, bytes.
	maxReason = 1000
)

// Ingress is what is known of one connector's ingress rules since this edge process began.
type Ingress struct {
	// Running is the version that it runs, 0 for none of the edge's; OwnFile says that it has a file of its own.
	Running uint64
	OwnFile bool
	// Sent is the version that was sent to it last, Answered the one that it answered last; 0 for none.
	Sent, Answered     uint64
	SentAt, AnsweredAt time.Time
	// Refused is why it refused Answered; empty when it took it.
	Refused string

	instance string
	via      *admission // the link that Sent went over
}

// ingressRules hands the rules that are kept at the edge to connectors: to each process once a version, however many links
// it has, and again when it comes back and still runs something else.
type ingressRules struct {
	store   tenant.IngressStore
	now     func() time.Time
	answers *prometheus.CounterVec

	mu    sync.Mutex // guards all below; nothing is called under it that can block
	links []*admission
	of    map[id.Connector]*Ingress
}

// Ingress tells what is known of the connectors that have been linked to this edge process.
func (s *Server) Ingress() map[id.Connector]Ingress {
	r := &s.ingress
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[id.Connector]Ingress, len(r.of))
	for c, known := range r.of {
		all[c] = *known
	}
	return all
}

// enter notes an admitted link and what its process runs.
func (r *ingressRules) enter(a *admission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = append(r.links, a)
	a.unoffered = true
	known := r.of[a.connector.ID]
	if known == nil || known.instance != a.hello.GetInstance() {
		known = &Ingress{instance: a.hello.GetInstance()}
		r.of[a.connector.ID] = known
	}
	known.Running = a.register.GetConfigurationVersion()
}

func (r *ingressRules) exit(a *admission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.links {
		if other == a {
			r.links = append(r.links[:i], r.links[i+1:]...)
			break
		}
	}
	known := r.process(a)
	if known == nil || known.via != a || known.Answered == known.Sent {
		return
	}
	// What was sent over a dead link may never have arrived: the process's other links bring it again.
	known.Sent, known.SentAt, known.via = 0, time.Time{}, nil
	for _, other := range r.links {
		if other.connector.ID == a.connector.ID {
			other.unoffered = true
		}
	}
}

// forget drops a connector that is gone for good.
func (r *ingressRules) forget(c id.Connector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, c)
}

// heard notes what a heartbeat says of the rules.
func (r *ingressRules) heard(a *admission, h *tunnelv1.Heartbeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.process(a)
	if known == nil {
		return
	}
	if known.OwnFile && !h.GetOwnFile() { // the file is gone: what it was offered meanwhile it did not take
		known.Sent, known.SentAt, known.via = 0, time.Time{}, nil
		a.unoffered = true
	}
	known.Running, known.OwnFile = h.GetConfigurationVersion(), h.GetOwnFile()
}

// process is the entry of a link's process, or nil if a newer process has taken its place; mu is held.
func (r *ingressRules) process(a *admission) *Ingress {
	if known := r.of[a.connector.ID]; known != nil && known.instance == a.hello.GetInstance() {
		return known
	}
	return nil
}

// offer sends a newly linked process the rules of its site, unless it runs them. A failure is told of and tried again with
// the link's next heartbeat.
func (s *Server) offer(ctx context.Context, a *admission) {
	if !s.ingress.take(a) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	if err := s.offerNow(ctx, a); err != nil {
		s.ingress.mu.Lock()
		a.unoffered = true
		s.ingress.mu.Unlock()
		s.logger(a).Error("ingress rules could not be looked up; the next heartbeat tries again", zap.Error(err))
	}
}

// take reports whether a link's process is to be offered rules, once.
func (r *ingressRules) take(a *admission) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := a.unoffered
	a.unoffered = false
	return due
}

func (s *Server) offerNow(ctx context.Context, a *admission) error {
	current, err := s.current(ctx, a.connector.Tenant, a.connector.Site)
	if err != nil || current.Version == 0 {
		return err
	}
	digest := sha256.Sum256(current.YAML)
	if a.register.GetConfigurationVersion() == current.Version && bytes.Equal(a.register.GetConfigurationDigest(), digest[:]) {
		return nil
	}
	s.sendRules(current, []*admission{a})
	return nil
}

// current returns the newest rules of a site; version 0 says that none were ever kept.
func (s *Server) current(ctx context.Context, t id.Tenant, site id.Site) (tenant.Ingress, error) {
	if s.ingress.store == nil {
		return tenant.Ingress{}, nil
	}
	i, err := s.ingress.store.Ingress(ctx, t, site, 0)
	if fault.Is(err, fault.NotFound) {
		return tenant.Ingress{}, nil
	}
	return i, err
}

// PushIngress sends the newest rules of a site to every process that is linked, over the newest of its links.
func (s *Server) PushIngress(ctx context.Context, t id.Tenant, site id.Site) error {
	current, err := s.current(ctx, t, site)
	if err != nil || current.Version == 0 {
		return err
	}
	s.ingress.mu.Lock()
	newest := map[string]*admission{}
	for _, a := range s.ingress.links {
		if a.connector.Tenant == t && a.connector.Site == site {
			newest[string(a.connector.ID)+"/"+a.hello.GetInstance()] = a
		}
	}
	s.ingress.mu.Unlock()
	links := make([]*admission, 0, len(newest))
	for _, a := range newest {
		links = append(links, a)
	}
	s.sendRules(current, links)
	return nil
}

// sendRules queues rules on links. That a queue takes them does not mean that they arrive: a process whose link turns out dead
// says in its next Register what it runs, and is offered them again.
func (s *Server) sendRules(rules tenant.Ingress, links []*admission) {
	message := &tunnelv1.Control{Message: &tunnelv1.Control_Configuration{Configuration: &tunnelv1.Configuration{
		Version: rules.Version, IngressYaml: rules.YAML,
	}}}
	for _, a := range links {
		if !s.ingress.due(a, rules.Version) {
			continue
		}
		// A link whose queue is full ends by that, and the process comes back.
		if err := a.control.post(message); err == nil {
			s.logger(a).Info("ingress rules sent", zap.Uint64("version", rules.Version))
		}
	}
}

// due reports whether a process is to be sent a version, and notes that it is.
func (r *ingressRules) due(a *admission, version uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.process(a)
	if known == nil || known.Sent == version {
		return false
	}
	known.Sent, known.SentAt, known.via = version, r.now(), a
	return true
}

// answered notes what a process says of rules that it was sent.
func (s *Server) answered(a *admission, ack *tunnelv1.ConfigurationAck) {
	reason := strings.ToValidUTF8(ack.GetReason()[:min(len(ack.GetReason()), maxReason)], "")
	result, level := "accepted", zap.InfoLevel
	switch {
	case ack.GetAccepted():
		reason = ""
	case ack.GetOwnFile():
		result = "own_file"
	default:
		result, level = "refused", zap.WarnLevel
	}
	s.ingress.answers.WithLabelValues(result).Inc()
	if entry := s.logger(a).Check(level, "ingress rules answered"); entry != nil {
		entry.Write(zap.Uint64("version", ack.GetVersion()), zap.String("result", result), zap.String("reason", reason))
	}
	r := &s.ingress
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.process(a)
	// An answer to what was never sent is noted as little as one of a process that is gone.
	if known == nil || ack.GetVersion() != known.Sent {
		return
	}
	known.Answered, known.AnsweredAt, known.Refused, known.OwnFile = ack.GetVersion(), r.now(), reason, ack.GetOwnFile()
	if ack.GetAccepted() {
		known.Running = ack.GetVersion()
	}
}
