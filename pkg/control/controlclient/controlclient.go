// Package controlclient owns the connector's side of a link: opening it (the drawing is in package controlserver), judging
// that the other side is the edge that was pinned at enrolment, the control stream while the link lives, and the enrolment
// request. It neither dials nor serves exchanges, and trusts no clock but the edge's for what the edge signed.
package controlclient

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	exporterLabel = "EXPORTER-sallyport-link"
	proofBytes    = 32
	handshake     = 5 * time.Second
	// earliestEdgeTime: an edge whose clock is before this code was written cannot judge a token either. Unix milliseconds.
	earliestEdgeTime = 1_760_000_000_000
)

// Config says who opens the link.
type Config struct {
	Connector id.Connector
	Key       ed25519.PrivateKey
	// Pinned holds the edge's root key; the key sets that the edge sends go into it.
	Pinned *token.Pinned
	// Clock is set from what the edge says, once it has proved to be the edge.
	Clock *Clock
	// Instance names this run of this process: 32 hexadecimal digits.
	Instance string
	// Generation is what an earlier link of this process got, 0 for the first.
	Generation uint64
	Lane       tunnelv1.Lane
	Software   string
	// Rules takes the ingress rules that are kept at the edge; nil takes none.
	Rules Rules
}

// Rules takes ingress rules that are kept at the edge. Its methods may be called from several links at once.
type Rules interface {
	// Running tells what is in force: the version kept at the edge and the SHA-256 of its text, 0 and nil for none, or that
	// the rules come from a file of the connector's own.
	Running() (version uint64, digest []byte, ownFile bool)
	// Configure checks rules, remembers them and puts them in force; empty text is none. An error leaves the rules before in
	// force; ErrOwnFile is in its chain when no rules of the edge are wanted.
	Configure(version uint64, text []byte) error
}

// ErrOwnFile says that a connector takes its rules from a file of its own.
var ErrOwnFile = errors.New("this connector takes its rules from its own file")

func (c *Config) running() (version uint64, digest []byte, ownFile bool) {
	if c.Rules == nil {
		return 0, nil, true
	}
	return c.Rules.Running()
}

func (c *Config) heartbeat(origins []*tunnelv1.OriginHealth) *tunnelv1.Heartbeat {
	h := &tunnelv1.Heartbeat{Origins: origins}
	h.ConfigurationVersion, _, h.OwnFile = c.running()
	return h
}

// Link is an open link: both sides have proved themselves.
type Link struct {
	tunnel.Link
	Generation uint64
	Tenant     id.Tenant
	Site       id.Site
	// Heartbeat is how often the edge wants one.
	Heartbeat time.Duration
	// Lane is what the link was opened for.
	Lane tunnelv1.Lane
	// Edge names the run of the edge process at the other end: links with the same one lead to the same process.
	Edge string
	// Moved says that large bodies may move between the links to this process: both sides named wire.FeatureMoved.
	Moved bool
	// BBR says that the edge sends on this link with BBR congestion control.
	BBR bool

	control *control
	cfg     Config
	// beats says that heartbeats go the way of exchanges: both sides named wire.FeatureBeat.
	beats bool
	// repairs says that lost packets are made good: both sides named wire.FeatureRepair.
	repairs bool
	// origins is Handlers.Origins, once Serve has it.
	origins atomic.Pointer[func() []*tunnelv1.OriginHealth]
	// claimed is the peer's clock until it has proved to be the edge; then it sets cfg.Clock.
	claimed Clock
}

// RefusedError is a Goodbye in place of an open link.
type RefusedError struct {
	// Code is the edge's: one of tunnel's Reason codes, or "version".
	Code       string
	Message    string
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	return "the edge refused the link: " + e.Code + ": " + e.Message
}

// ErrNotOurEdge says that the peer completed TLS and is not the edge that was pinned at enrolment, or that TLS was opened on
// the way.
var ErrNotOurEdge = errors.New("the peer is not the edge that this connector enrolled with")

// Open opens the control stream of a dialled link and completes the mutual proof within 5 s. On an error the link is closed.
// When it returns, the edge may open exchanges on the link: Accept them.
func Open(ctx context.Context, link tunnel.Link, cfg Config) (*Link, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	l := &Link{Link: link, Lane: cfg.Lane, cfg: cfg}
	err := l.open(ctx)
	if err == nil {
		return l, nil
	}
	reason := tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the link could not be opened"}
	if errors.Is(err, ErrNotOurEdge) {
		reason = tunnel.Reason{Code: tunnel.ReasonRefused, Message: "you are not the edge that this connector knows"}
	}
	_ = link.Close(reason)
	return nil, l.explain(err)
}

// explain prefers what the edge said when it closed the link over how the reading of it failed.
func (l *Link) explain(err error) error {
	var closed *tunnel.ClosedError
	if errors.As(l.Cause(), &closed) && closed.Remote {
		var refused *RefusedError
		if !errors.As(err, &refused) {
			return &RefusedError{Code: closed.Reason.Code, Message: closed.Reason.Message, RetryAfter: closed.Reason.RetryAfter}
		}
	}
	return err
}

func (l *Link) open(ctx context.Context) error {
	stream, err := l.Open(ctx)
	if err != nil {
		return fmt.Errorf("control stream: %w", err)
	}
	deadline, _ := ctx.Deadline()
	if err := errors.Join(stream.SetReadDeadline(deadline), stream.SetWriteDeadline(deadline)); err != nil {
		return fmt.Errorf("control stream: %w", err)
	}
	l.control = newControl(stream)
	exporter, err := l.Export(exporterLabel, nil, proofBytes)
	if err != nil {
		return fmt.Errorf("exporter: %w", err)
	}
	nonce := make([]byte, proofBytes)
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	if err := l.hello(nonce); err != nil {
		return err
	}
	if err := l.register(exporter); err != nil {
		return err
	}
	if err := l.believe(nonce, exporter); err != nil {
		return err
	}
	l.Admit()
	if l.repairs {
		tunnel.Repair(l.Link)
	}
	l.control.admit()
	// The first heartbeat tells the edge that exchanges are welcome; what it opens before would meet a held link.
	if err := l.control.heartbeat(l.cfg.heartbeat(nil)); err != nil {
		return err
	}
	return errors.Join(stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{}))
}

func (l *Link) hello(nonce []byte) error {
	if err := wire.WriteKind(l.control.stream, wire.StreamControl); err != nil {
		return fmt.Errorf("control stream: %w", err)
	}
	return l.control.send(&tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: &tunnelv1.Hello{
		Versions: []uint32{wire.Version}, Instance: l.cfg.Instance, Nonce: nonce, Connector: string(l.cfg.Connector),
		Features: features(l.Link),
		Lane:     l.cfg.Lane, Generation: l.cfg.Generation, Software: l.cfg.Software,
	}}})
}

// features names what this connector does on a link.
func features(link tunnel.Link) []string {
	names := []string{wire.FeatureMoved, wire.FeatureProbe, wire.FeatureOnce, wire.FeatureBeat}
	if tunnel.CanRepair(link) {
		names = append(names, wire.FeatureRepair)
	}
	return names
}

// register answers the edge's hello with the proof.
func (l *Link) register(exporter []byte) error {
	m, err := l.control.read()
	if err != nil {
		return err
	}
	h := m.GetHello()
	switch {
	case h == nil:
		return errors.New("the edge sent no hello")
	case len(h.GetVersions()) != 1 || h.GetVersions()[0] != wire.Version:
		return &RefusedError{Code: "version", Message: fmt.Sprintf("it speaks %v, this connector %d", h.GetVersions(), wire.Version)}
	case len(h.GetNonce()) != proofBytes || h.GetEdgeTimeMs() < earliestEdgeTime:
		return fmt.Errorf("%w: malformed hello", ErrNotOurEdge)
	}
	l.claimed.set(h.GetEdgeTimeMs())
	// An edge that does not say which process it is cannot have several links told to be one process's.
	l.Edge, l.Moved = h.GetInstance(), h.GetInstance() != "" && slices.Contains(h.GetFeatures(), wire.FeatureMoved)
	l.BBR = slices.Contains(h.GetFeatures(), wire.FeatureBBR)
	l.beats = slices.Contains(h.GetFeatures(), wire.FeatureBeat)
	l.repairs = tunnel.CanRepair(l.Link) && slices.Contains(h.GetFeatures(), wire.FeatureRepair)
	l.control.probed = slices.Contains(h.GetFeatures(), wire.FeatureProbe)
	proof, err := token.SignLinkProof(l.cfg.Key, l.cfg.Connector, h.GetNonce(), exporter)
	if err != nil {
		return err
	}
	register := &tunnelv1.Register{Proof: proof}
	register.ConfigurationVersion, register.ConfigurationDigest, _ = l.cfg.running()
	return l.control.send(&tunnelv1.Control{Message: &tunnelv1.Control_Register{Register: register}})
}

// believe checks that the peer is the pinned edge before anything else it says counts.
func (l *Link) believe(nonce, exporter []byte) error {
	m, err := l.control.read()
	if err != nil {
		return err
	}
	r := m.GetRegistered()
	if r == nil {
		return errors.New("the edge did not register this connector")
	}
	now := l.claimed.Now()
	for _, set := range r.GetKeySets() {
		// A set that is older than the one held is no fault: two links open at once.
		if err := l.cfg.Pinned.Update(set, now); err != nil && !errors.Is(err, token.ErrOlder) {
			return fmt.Errorf("%w: key set: %w", ErrNotOurEdge, err)
		}
	}
	if err := l.cfg.Pinned.VerifyEdgeProof(r.GetEdgeProof(), nonce, exporter, now); err != nil {
		return fmt.Errorf("%w: proof: %w", ErrNotOurEdge, err)
	}
	if r.GetGeneration() == 0 || r.GetTenant() == "" || r.GetSite() == "" {
		return errors.New("the edge's registration is incomplete")
	}
	l.cfg.Clock.set(l.claimed.Now().UnixMilli())
	l.Generation, l.Tenant, l.Site = r.GetGeneration(), id.Tenant(r.GetTenant()), id.Site(r.GetSite())
	l.Heartbeat = min(max(time.Duration(r.GetHeartbeatMs())*time.Millisecond, 500*time.Millisecond), 10*time.Second)
	return nil
}

// eof makes the end of the control stream an error that says so.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the edge ended the control stream: %w", io.ErrUnexpectedEOF)
	}
	return err
}
