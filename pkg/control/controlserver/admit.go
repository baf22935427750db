package controlserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

var (
	instanceForm  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	connectorForm = regexp.MustCompile(`^con_[0-9a-f-]{36}$`)
)

// codeVersion is the Goodbye code for peers that share no version; links themselves close with ReasonRefused.
const codeVersion = "version"

// refusal is an error with the reason that the peer is told.
type refusal struct {
	tunnel.Reason
	goodbye string // Goodbye code where it is not Reason.Code
	cause   error
}

func (r *refusal) Error() string {
	if r.cause == nil {
		return r.String()
	}
	return r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }

func (r *refusal) code() string {
	if r.goodbye != "" {
		return r.goodbye
	}
	return r.Code
}

// unproved is what every peer is told that did not prove who it is: one answer for a stranger, a wrong key and a replay.
func unproved(cause error) error {
	return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonRefused, Message: "this edge does not know you", RetryAfter: 30 * time.Second}, cause: cause}
}

// admission is one link on its way in, and what was learnt about it.
type admission struct {
	link       tunnel.Link
	control    *control
	hello      *tunnelv1.Hello
	register   *tunnelv1.Register
	connector  enroll.Connector
	generation uint64
	// moves is nil where bodies do not move.
	moves *exchange.Moves
	leave func()
	// unoffered says that the link is still to be offered its site's ingress rules; ingressRules.mu guards it.
	unoffered bool
	probing   probing
	// watchdog ends the link when no heartbeat has come for long.
	watchdog *time.Timer
}

// probed says that the connector answers probes.
func (a *admission) probed() bool { return slices.Contains(a.hello.GetFeatures(), wire.FeatureProbe) }

// beats says that the connector's heartbeats go the way of exchanges.
func (a *admission) beats() bool {
	return a.probed() && slices.Contains(a.hello.GetFeatures(), wire.FeatureBeat)
}

// admit opens the link as the package comment draws it. The admission is returned with an error too, as far as it came.
func (s *Server) admit(ctx context.Context, link tunnel.Link) (*admission, error) {
	a := &admission{link: link}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Handshake)
	defer cancel()
	stream, err := link.Accept(ctx)
	if err != nil {
		return a, fmt.Errorf("control stream: %w", err)
	}
	deadline, _ := ctx.Deadline()
	// Deadlines and not only ctx: a peer that sends a byte a second must not outlive the handshake either.
	if err := errors.Join(stream.SetReadDeadline(deadline), stream.SetWriteDeadline(deadline)); err != nil {
		return a, fmt.Errorf("control stream: %w", err)
	}
	a.control = newControl(stream, func(err error) { endOn(link, err) })
	if err := s.greet(a); err != nil {
		return a, err
	}
	if err := s.prove(ctx, a); err != nil {
		return a, err
	}
	if err := s.register(ctx, a); err != nil {
		return a, err
	}
	a.register.Proof, a.hello.Nonce = "", nil // the link keeps the rest
	return a, errors.Join(stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{}))
}

// greet reads the connector's Hello, checks its form and agrees on a version.
func (s *Server) greet(a *admission) error {
	kind, err := wire.ReadKind(a.control.reader)
	if err != nil {
		return fmt.Errorf("stream kind: %w", err)
	}
	if kind != wire.StreamControl {
		return fmt.Errorf("first stream is of kind %d", kind)
	}
	m, err := a.control.read()
	if err != nil {
		return err
	}
	h := m.GetHello()
	switch {
	case h == nil:
		return errors.New("first message is no hello")
	case !slices.Contains(h.GetVersions(), wire.Version):
		return &refusal{
			Reason:  tunnel.Reason{Code: tunnel.ReasonRefused, Message: "no shared protocol version: update the connector", RetryAfter: time.Minute},
			goodbye: codeVersion, cause: fmt.Errorf("versions %v", h.GetVersions()[:min(len(h.GetVersions()), 8)]),
		}
	case len(h.GetNonce()) != proofBytes || !instanceForm.MatchString(h.GetInstance()) || !connectorForm.MatchString(h.GetConnector()):
		return errors.New("malformed hello")
	case len(h.GetSoftware()) > 128 || len(h.GetFeatures()) > 32 || h.GetLane() == tunnelv1.Lane_LANE_UNSPECIFIED:
		return errors.New("malformed hello")
	}
	a.hello = h
	a.connector.ID = id.Connector(h.GetConnector())
	return nil
}

// prove answers with a nonce and checks the connector's proof over it. The store is asked before, and its answer judged after,
// so that a stranger learns nothing from where it stops, and that who answers is known to have lived when no newer process had a
// number than the store then said.
func (s *Server) prove(ctx context.Context, a *admission) error {
	exporter, err := a.link.Export(ExporterLabel, nil, proofBytes)
	if err != nil {
		return fmt.Errorf("exporter: %w", err)
	}
	known, errKnown := s.cfg.Enroll.Connector(ctx, a.connector.ID)
	nonce := make([]byte, proofBytes)
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	err = a.control.send(&tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: &tunnelv1.Hello{
		Versions: []uint32{wire.Version}, Features: features(a.link), Instance: s.instance, EdgeTimeMs: s.cfg.Now().UnixMilli(), Nonce: nonce,
	}}})
	if err != nil {
		return err
	}
	m, err := a.control.read()
	if err != nil {
		return err
	}
	if errKnown != nil && !fault.Is(errKnown, fault.NotFound) {
		return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the edge cannot look you up now", RetryAfter: 5 * time.Second}, cause: errKnown}
	}
	key := known.PublicKey
	if errKnown != nil {
		key = s.decoy
	}
	if err := token.VerifyLinkProof(key, m.GetRegister().GetProof(), a.connector.ID, nonce, exporter); err != nil {
		return unproved(err)
	}
	a.connector, a.register = known, m.GetRegister()
	if s.cfg.Revoked != nil && s.cfg.Revoked(known.Tenant, known.ID) {
		return &refusal{Reason: revokedReason(), cause: errors.New("revoked; the store does not know it yet")}
	}
	return standing(known)
}

// features names what this edge does on a link.
func features(link tunnel.Link) []string {
	names := []string{wire.FeatureMoved, wire.FeatureProbe, wire.FeatureBeat}
	if link.Info().Congestion == wire.FeatureBBR { // the kernel's name
		names = append(names, wire.FeatureBBR)
	}
	if tunnel.CanRepair(link) {
		names = append(names, wire.FeatureRepair)
	}
	return names
}

// standing refuses a connector that proved its key and may not come in all the same.
func standing(c enroll.Connector) error {
	switch {
	case !c.Revoked.IsZero():
		return &refusal{Reason: revokedReason(), cause: errors.New("revoked")}
	case c.Frozen != "":
		return frozen(errors.New("frozen: " + c.Frozen))
	}
	return nil
}

func frozen(cause error) error {
	return &refusal{Reason: frozenReason(), cause: cause}
}

func frozenReason() tunnel.Reason {
	return tunnel.Reason{Code: tunnel.ReasonRefused, Message: "this connector is frozen; ask the operator", RetryAfter: time.Minute}
}

func revokedReason() tunnel.Reason {
	return tunnel.Reason{Code: tunnel.ReasonRevoked, Message: "this connector's enrolment was revoked; enrol it again", RetryAfter: time.Hour}
}

// register issues the generation, proves the edge, and joins the link to the registry once the connector has said, by its
// first heartbeat, that it believes the edge and takes exchanges.
func (s *Server) register(ctx context.Context, a *admission) error {
	c := a.connector
	who := registry.Who{Tenant: c.Tenant, Site: c.Site, Connector: c.ID, Instance: a.hello.GetInstance()}
	generation, err := s.cfg.Registry.Generation(ctx, who, func(ctx context.Context) (enroll.Run, error) {
		return s.cfg.Enroll.JoinRun(ctx, c.ID, who.Instance, c.Newest)
	})
	if fault.Is(err, fault.Conflict) {
		return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: fault.Public(err), RetryAfter: time.Second}, cause: err}
	}
	if fault.Is(err, fault.Denied) {
		return frozen(err)
	}
	if err != nil {
		return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the edge cannot admit you now", RetryAfter: 5 * time.Second}, cause: err}
	}
	a.generation = generation
	registered, err := s.registered(a)
	if err != nil {
		return err
	}
	if err := a.control.send(registered); err != nil {
		return err
	}
	m, err := a.control.read()
	if err != nil {
		return err
	}
	if m.GetHeartbeat() == nil {
		return errors.New("no heartbeat after registered")
	}
	a.link.Admit()
	if tunnel.CanRepair(a.link) && slices.Contains(a.hello.GetFeatures(), wire.FeatureRepair) {
		tunnel.Repair(a.link)
	}
	a.control.admit()
	// Before the link joins: from then on the registry may have it prove itself, which puts the watchdog off.
	a.watchdog = time.AfterFunc(patience*s.cfg.Heartbeat, func() {
		_ = a.link.Close(tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "no heartbeat"})
	})
	err = s.join(ctx, a)
	if err == nil {
		err = s.heartbeat(a, m.GetHeartbeat())
	}
	if err != nil {
		a.watchdog.Stop()
	}
	return err
}

func (s *Server) registered(a *admission) (*tunnelv1.Control, error) {
	exporter, err := a.link.Export(ExporterLabel, nil, proofBytes)
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	proof, err := s.cfg.Keyring.MintEdgeProof(a.hello.GetNonce(), exporter)
	if err != nil {
		return nil, err
	}
	sets, err := s.cfg.Keyring.KeySets(s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return &tunnelv1.Control{Message: &tunnelv1.Control_Registered{Registered: &tunnelv1.Registered{
		Generation: a.generation, EdgeProof: proof, KeySets: sets, Tenant: string(a.connector.Tenant), Site: string(a.connector.Site),
		HeartbeatMs: uint32(s.every(a).Milliseconds()),
	}}}, nil
}

// every is how often a heartbeat is due on a link.
func (s *Server) every(a *admission) time.Duration {
	if a.beats() {
		return beatsEvery * s.cfg.Heartbeat
	}
	return s.cfg.Heartbeat
}

// join puts the link into the registry. The connector is looked up once more after that: a revocation between the first
// look and now has found no link to cut.
func (s *Server) join(ctx context.Context, a *admission) error {
	c := a.connector
	var prove func()
	if a.probed() {
		prove = func() { s.probeNow(a) }
	}
	leave, err := s.cfg.Registry.Join(registry.Member{
		Tenant: c.Tenant, Site: c.Site, Connector: c.ID, Generation: a.generation, Instance: a.hello.GetInstance(),
		Lane: a.hello.GetLane(), Link: a.link, Control: a.control.post,
		Moved:  slices.Contains(a.hello.GetFeatures(), wire.FeatureMoved),
		Once:   slices.Contains(a.hello.GetFeatures(), wire.FeatureOnce),
		Probed: a.probed(), Prove: prove,
	})
	if fault.Is(err, fault.Conflict) {
		return &refusal{Reason: tunnel.Reason{Code: tunnel.ReasonSuperseded, Message: fault.Public(err), RetryAfter: 5 * time.Second}, cause: err}
	}
	if err != nil {
		return frozen(err)
	}
	again, err := s.cfg.Enroll.Connector(ctx, c.ID)
	if err == nil {
		err = standing(again)
	}
	if err != nil {
		leave()
		return err
	}
	a.leave, a.moves = leave, s.cfg.Registry.Moves(c.ID, a.generation)
	return nil
}
