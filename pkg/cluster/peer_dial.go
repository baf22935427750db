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
		if up || !said {
			p.cfg.Logger.Warn("no link to another edge", zap.String("edge", string(peer.ID)), zap.String("address", peer.Address), zap.Bool("was_up", up), zap.Error(err))
		}
		said = true
		upFor := time.Duration(0)
		if up {
			upFor = time.Since(began)
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

// dialOnce opens a link and serves it until it ends; up says that there was one.
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
	defer stop()
	l := &peerLink{Link: link, edge: peer.ID, out: make(chan *tunnelv1.PeerControl, peerQueue)}
	in, err := p.greet(ctx, l)
	if err != nil {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "no hello between edges"})
		return false, err
	}
	if !p.enter(l) {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the edge stops"})
		return false, errors.New("the edge stops")
	}
	p.cfg.Members.Linked(peer.ID, true)
	defer func() {
		p.leave(l)
		p.cfg.Members.Linked(peer.ID, p.linked(peer.ID))
	}()
	l.changes(p.cfg.Pending())
	p.cfg.Logger.Info("linked to another edge", zap.String("edge", string(peer.ID)), zap.String("address", peer.Address))
	return true, p.converse(l, in)
}

// linked reports whether there is a link to the edge.
func (p *Peers) linked(edge id.Edge) bool {
	_, ok := p.Link(edge)
	return ok
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
