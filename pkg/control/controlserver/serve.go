package controlserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// What an admitted connector may do at most; an honest one stays far below (attack case K1).
const (
	messagesPerSecond = 10
	messagesAtOnce    = 100
	maxOrigins        = 64
	// patience is how many heartbeats may fail to come. The transports find a dead peer within 10 s; this is for one that
	// lives and does not do its part, and must not mistake a saturated line for it.
	patience = 10
	// beatsEvery is how many of Config.Heartbeat pass from one beat to the next: what is up was shown 6 s ago at most.
	beatsEvery = 2
)

// serve runs the control stream of an admitted link until the link ends. While the link is idle one goroutine waits here, or two where
// the control stream does not rouse who reads it, with small stacks: whatever goes deeper is done apart.
func (s *Server) serve(ctx context.Context, a *admission) {
	up := s.cfg.Now()
	apart(func() { s.begin(ctx, a) })
	receiving := s.receive(a)
	a.control.open()
	s.takeStreams(ctx, a)
	<-a.link.Done()
	receiving.end()
	s.end(a, up)
}

// begin is what a link's coming brings about.
func (s *Server) begin(ctx context.Context, a *admission) {
	s.ingress.enter(a)
	s.offer(ctx, a)
	// A logger of its own holds a kilobyte, so none is kept while the link is idle.
	s.logger(a).Info("connector linked", zap.String("software", a.hello.GetSoftware()), zap.Stringer("lane", a.hello.GetLane()))
	s.tellEdges(a)
}

// end is what its end does.
func (s *Server) end(a *admission, up time.Time) {
	a.probing.end()
	a.watchdog.Stop()
	s.logger(a).Info("connector unlinked", zap.NamedError("cause", a.link.Cause()), zap.Duration("up", s.cfg.Now().Sub(up)))
	s.ingress.exit(a)
	a.leave()
}

// endOn closes the link when one of its parts has ended; the link's first cause stays.
func endOn(link tunnel.Link, err error) {
	reason := tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "control stream"}
	var no *refusal
	switch {
	case err == nil:
		return
	case errors.As(err, &no):
		reason = no.Reason
	case errors.Is(err, io.EOF):
		reason = tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the control stream ended"}
	}
	_ = link.Close(reason)
}

// receiving handles the connector's messages until the control stream ends, which ends the link.
type receiving struct {
	server  *Server
	link    *admission
	limiter *rate.Limiter

	mu         sync.Mutex // guards over
	over       bool       // no goroutine is begun any more
	goroutines sync.WaitGroup
}

// receive begins to handle messages.
func (s *Server) receive(a *admission) *receiving {
	r := &receiving{server: s, link: a, limiter: rate.NewLimiter(messagesPerSecond, messagesAtOnce)}
	if !a.control.rouse(r.roused) {
		r.goroutines.Go(r.wait)
	}
	return r
}

// wait waits for messages.
func (r *receiving) wait() {
	for more := true; more; {
		r.link.control.await()
		apart(func() { more = r.one() })
	}
}

// roused handles what came, in a goroutine that ends where there is no more.
func (r *receiving) roused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.goroutines.Go(func() {
		if r.one() {
			r.link.control.rouse(r.roused)
		}
	})
}

// end waits for what is being handled; the link has ended.
func (r *receiving) end() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.goroutines.Wait()
}

// one handles one message, and reports whether there may be more.
func (r *receiving) one() bool {
	err := r.server.receiveOne(r.link, r.limiter)
	endOn(r.link.link, err)
	return err == nil
}

func (s *Server) receiveOne(a *admission, limiter *rate.Limiter) error {
	m, err := a.control.read()
	if err != nil {
		return err
	}
	if !limiter.Allow() {
		return errors.New("control stream: too many messages")
	}
	a.watchdog.Reset(patience * s.cfg.Heartbeat)
	return s.handle(a, m)
}

func (s *Server) handle(a *admission, m *tunnelv1.Control) error {
	switch body := m.GetMessage().(type) {
	case nil: // a kind of a later version
		return nil
	case *tunnelv1.Control_Heartbeat:
		s.offer(context.Background(), a)
		return s.heartbeat(a, body.Heartbeat)
	case *tunnelv1.Control_ConfigurationAck:
		s.answered(a, body.ConfigurationAck)
		return nil
	case *tunnelv1.Control_Drain:
		s.cfg.Registry.Leaving(a.connector.Tenant, a.connector.Site, a.link)
		return nil
	case *tunnelv1.Control_Goodbye:
		return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the connector said goodbye"}}
	default:
		return fmt.Errorf("control stream: unexpected %T", body)
	}
}

func (s *Server) heartbeat(a *admission, h *tunnelv1.Heartbeat) error {
	if err := s.heard(a, h); err != nil {
		return err
	}
	if a.probed() {
		s.probe(a)
	}
	return s.acknowledge(a, h.GetSequence())
}

// heard notes what a heartbeat says.
func (s *Server) heard(a *admission, h *tunnelv1.Heartbeat) error {
	if len(h.GetOrigins()) > maxOrigins {
		return fmt.Errorf("heartbeat with %d origins", len(h.GetOrigins()))
	}
	s.ingress.heard(a, h)
	s.cfg.Registry.Heard(a.connector.Tenant, a.connector.Site, a.link, h.GetOrigins())
	return nil
}
