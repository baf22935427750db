package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// dialling is what keeps a link to one peer.
type dialling struct {
	stop context.CancelFunc
	// peer is where it is dialled; a new one in news takes effect at once.
	peer Peer
	news chan Peer
}

// dialAll keeps a link to every peer that has an address.
func (p *Peers) dialAll(ctx context.Context) {
	for {
		changed := p.cfg.Members.Changed()
		p.dialThese(ctx, p.cfg.Members.Peers())
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// dialThese starts and ends what keeps links.
func (p *Peers) dialThese(ctx context.Context, peers []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[id.Edge]bool{}
	for _, peer := range peers {
		if peer.Address == "" || peer.ID == p.cfg.Members.Self() {
			continue
		}
		wanted[peer.ID] = true
		d := p.dialling[peer.ID]
		switch {
		case d == nil && !p.closed:
			own, stop := context.WithCancel(ctx)
			d = &dialling{stop: stop, peer: peer, news: make(chan Peer, 1)}
			p.dialling[peer.ID] = d
			p.serving.Go(func() { p.keep(own, d) })
		case d != nil && (d.peer.Address != peer.Address || d.peer.Incarnation != peer.Incarnation):
			d.peer = peer
			select {
			case <-d.news:
			default:
			}
			d.news <- peer
		}
	}
	for edge, d := range p.dialling {
		if !wanted[edge] {
			d.stop()
			delete(p.dialling, edge)
		}
	}
}

// keep dials one peer again and again until ctx ends.
func (p *Peers) keep(ctx context.Context, d *dialling) {
	p.mu.Lock()
	peer := d.peer
	p.mu.Unlock()
	var backoff tunnel.Backoff
	said := false
	for ctx.Err() == nil {
		began := time.Now()
		up, err := p.dialOnce(ctx, peer)
		if ctx.Err() != nil {
			return
		}
		// Once for each time that it goes, not for each try.
		if (up || !said) && !errors.Is(err, errLeaving) {
			p.cfg.Logger.Warn("no link to another edge", zap.String("edge", string(peer.ID)), zap.String("address", peer.Address), zap.Bool("was_up", up), zap.Error(err))
		}
		said = true
		upFor := time.Duration(0)
		if up {
			upFor = time.Since(began)
		}
		if errors.Is(err, errLeaving) && upFor > peerRest {
			continue // at once, and beside the old link
		}
		timer := time.NewTimer(backoff.Next(time.Now(), upFor, retryAfter(err)))
		select {
		case <-ctx.Done():
		case peer = <-d.news:
			backoff = tunnel.Backoff{}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// retryAfter is how long the peer asked to be left alone.
func retryAfter(err error) time.Duration {
	var closed *tunnel.ClosedError
	if errors.As(err, &closed) && closed.Remote {
		return closed.Reason.RetryAfter
	}
	return 0
}

// errLeaving says that the peer's process gives its place to another one: there is a new link to be had.
var errLeaving = errors.New("the process at the other end gives its place to another")

// dialOnce opens a link and returns when it has ended, or when a new one is to be opened beside it; up says that there was one.
func (p *Peers) dialOnce(ctx context.Context, peer Peer) (up bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, 2*peerHandshake)
	link, err := p.dialer.Dial(dialCtx, tunnel.Target{Address: peer.Address, ServerName: "edge.invalid", TLS: p.credentials.client(peer.ID)})
	cancel()
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "not needed any more"})
	})
	l := &peerLink{Link: link, edge: peer.ID, out: make(chan *tunnelv1.PeerControl, peerQueue), leaving: make(chan struct{})}
	in, err := p.greet(ctx, l)
	over := make(chan error, 1)
	if err == nil && !p.enter(l) {
		err = errors.New("the edge stops")
	}
	if err == nil && !p.start(func() { over <- p.talk(l, in, stop) }) {
		err = errors.New("the edge stops")
	}
	if err != nil {
		stop()
		p.leave(l)
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "no hello between edges"})
		return false, err
	}
	p.cfg.Logger.Info("linked to another edge", zap.String("edge", string(peer.ID)), zap.String("address", peer.Address))
	select {
	case err = <-over:
		return true, err
	case <-l.leaving:
		return true, errLeaving
	}
}

// talk serves a link that this edge dialled until it ends.
func (p *Peers) talk(l *peerLink, in *bufio.Reader, stop func() bool) error {
	defer stop()
	p.cfg.Members.Linked(l.edge, true)
	l.changes(p.cfg.Pending())
	err := p.converse(l, in)
	p.leave(l)
	p.cfg.Members.Linked(l.edge, p.linked(l.edge))
	return err
}

// greet opens the control stream and exchanges hellos.
func (p *Peers) greet(ctx context.Context, l *peerLink) (*bufio.Reader, error) {
	l.Admit() // both have proved who they are: the certificates were judged in the handshake
	ctx, cancel := context.WithTimeout(ctx, peerHandshake)
	defer cancel()
	s, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	l.control = s
	err = errors.Join(s.SetWriteDeadline(time.Now().Add(peerHandshake)), s.SetReadDeadline(time.Now().Add(peerHandshake)),
		wire.WriteKind(s, wire.StreamControl), wire.WritePeer(s, p.hello()))
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(s)
	hello, err := readHello(in)
	if err != nil {
		return nil, err
	}
	switch {
	case hello.GetEdge() != string(l.edge):
		return nil, fmt.Errorf("edge %s says that it is %.40q: %w", l.edge, hello.GetEdge(), wire.ErrProtocol)
	case len(hello.GetVersions()) != 1 || hello.GetVersions()[0] != wire.Version:
		return nil, fmt.Errorf("edge %s chose version %v: %w", l.edge, hello.GetVersions(), wire.ErrProtocol)
	}
	return in, s.SetReadDeadline(time.Time{})
}

func readHello(in *bufio.Reader) (*tunnelv1.PeerHello, error) {
	m, err := wire.ReadPeer(in, wire.MaxControlHeld)
	if err != nil {
		return nil, fmt.Errorf("hello between edges: %w", err)
	}
	hello := m.GetHello()
	if hello == nil {
		return nil, fmt.Errorf("no hello between edges: %w", wire.ErrProtocol)
	}
	return hello, nil
}
