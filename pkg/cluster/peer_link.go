package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// perMessage is how many holdings or changes one message carries.
	perMessage = 1000
	// maxHoldings is how many a peer may name in one announcement.
	maxHoldings = 200_000
	// writeLimit bounds one write on a control stream.
	writeLimit = 5 * time.Second
)

// peerLink is a link that both sides know each other by.
type peerLink struct {
	tunnel.Link
	edge     id.Edge
	accepted bool
	control  tunnel.Stream
	out      chan *tunnelv1.PeerControl
	// leaving is closed when the peer says that its process gives its place to another one. Of a link that this edge dialled.
	leaving chan struct{}
	left    bool // that it has; the reader's alone

	mu      sync.Mutex // guards held and silence
	held    map[holdingKey]Holding
	silence silence
}

// heard notes what the process at the other end holds.
func (l *peerLink) heard(a Announcement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.Full || l.held == nil {
		l.held = map[holdingKey]Holding{}
	}
	for _, h := range a.Holdings {
		if h.Links == 0 {
			delete(l.held, h.key())
		} else {
			l.held[h.key()] = h
		}
	}
}

// holds returns what the process at the other end said of a run that it holds.
func (l *peerLink) holds(h Holding) (Holding, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	said, ok := l.held[h.key()]
	return said, ok && said.Generation == h.Generation
}

func (p *Peers) hello() *tunnelv1.PeerControl {
	return &tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Hello{Hello: &tunnelv1.PeerHello{
		Versions: []uint32{wire.Version}, Edge: string(p.cfg.Members.Self()), Instance: p.instance, Software: build.Version(),
	}}}
}

// send queues a message. It never blocks: a peer that does not take what it is told gets a new link, and there all anew.
func (l *peerLink) send(m *tunnelv1.PeerControl) {
	select {
	case l.out <- m:
	default:
		go func() {
			_ = l.Close(tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the control stream is not read"})
		}()
	}
}

// changes queues changes.
func (l *peerLink) changes(changes []change.Change) {
	for part := range slices.Chunk(changes, perMessage) {
		m := &tunnelv1.PeerChanges{}
		for _, c := range part {
			m.Changes = append(m.Changes, &tunnelv1.PeerChange{Tenant: string(c.Tenant), Kind: string(c.Kind), Id: c.ID, Version: c.Version})
		}
		l.send(&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Changes{Changes: m}})
	}
}

// announce queues what this edge holds.
func (l *peerLink) announce(a Announcement) {
	for first := true; first || len(a.Holdings) > 0; first = false {
		n := min(len(a.Holdings), perMessage)
		m := &tunnelv1.PeerHoldings{
			Incarnation: a.Incarnation, Version: a.Version, Full: a.Full, Draining: a.Draining, More: n < len(a.Holdings),
			ClockAheadMs: a.Ahead.Milliseconds(),
		}
		for _, h := range a.Holdings[:n] {
			m.Holdings = append(m.Holdings, &tunnelv1.PeerHolding{
				Tenant: string(h.Tenant), Site: string(h.Site), Connector: string(h.Connector), Generation: h.Generation, Links: uint32(h.Links),
				Once: h.Once, Quiet: h.Quiet,
			})
		}
		a.Holdings = a.Holdings[n:]
		l.send(&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: m}})
	}
}

// serve speaks with a peer that dialled, and serves its exchanges, until the link ends.
func (p *Peers) serve(ctx context.Context, link tunnel.Link) {
	l := &peerLink{Link: link, accepted: true, out: make(chan *tunnelv1.PeerControl, peerQueue)}
	in, err := p.greeted(ctx, l)
	if err != nil || !p.enter(l) {
		p.cfg.Logger.Warn("link of another edge refused", zap.String("edge", string(l.edge)), zap.Error(err))
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "no hello between edges"})
		return
	}
	defer p.leave(l)
	stop := p.cfg.Members.Subscribe(l.announce)
	defer stop()
	l.changes(p.cfg.Pending())
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { p.exchanges(l) })
	if err := p.converse(l, in); err != nil {
		p.cfg.Logger.Info("link of another edge ended", zap.String("edge", string(l.edge)), zap.Error(err))
	}
}

// greeted takes the control stream of a peer that dialled and exchanges hellos.
func (p *Peers) greeted(ctx context.Context, l *peerLink) (*bufio.Reader, error) {
	certified, ok := l.Link.(tunnel.Certified)
	if !ok {
		return nil, errors.New("a link without certificates")
	}
	var err error
	if l.edge, err = p.credentials.peer(certified.PeerCertificates()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerHandshake)
	defer cancel()
	s, err := l.Accept(ctx)
	if err != nil {
		return nil, err
	}
	l.control = s
	deadline := time.Now().Add(peerHandshake)
	if err := errors.Join(s.SetReadDeadline(deadline), s.SetWriteDeadline(deadline)); err != nil {
		return nil, err
	}
	if kind, err := wire.ReadKind(s); err != nil || kind != wire.StreamControl {
		return nil, fmt.Errorf("the first stream is of kind %d: %w", kind, errors.Join(err, wire.ErrProtocol))
	}
	in := bufio.NewReader(s)
	hello, err := readHello(in)
	switch {
	case err != nil:
		return nil, err
	case hello.GetEdge() != string(l.edge):
		return nil, fmt.Errorf("edge %s says that it is %.40q: %w", l.edge, hello.GetEdge(), wire.ErrProtocol)
	case !slices.Contains(hello.GetVersions(), wire.Version):
		return nil, fmt.Errorf("edge %s speaks versions %v, this one %d", l.edge, hello.GetVersions(), wire.Version)
	}
	l.Admit()
	return in, errors.Join(wire.WritePeer(s, p.hello()), s.SetReadDeadline(time.Time{}))
}

// exchanges serves what the peer forwards, until the link ends and all of it has.
func (p *Peers) exchanges(l *peerLink) {
	// Streams end with their link; the context ends what is done for them over connectors' links.
	ctx, cancel := context.WithCancelCause(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer func() { cancel(l.Cause()) }()
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			return
		}
		all.Go(func() { p.exchange(ctx, s) })
	}
}

func (p *Peers) exchange(ctx context.Context, s tunnel.Stream) {
	p.relaying.Add(1)
	p.relayed.Store(time.Now().UnixNano())
	defer p.relaying.Add(-1)
	err := s.SetReadDeadline(time.Now().Add(peerHandshake))
	kind, errKind := wire.ReadKind(s)
	if err = errors.Join(err, errKind); err != nil {
		s.Reset(tunnel.ResetTimeout)
		return
	}
	if kind != wire.StreamExchange {
		s.Reset(tunnel.ResetProtocol)
		return
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		s.Reset(tunnel.ResetInternal)
		return
	}
	var crashed *exchange.PanicError
	if err := exchange.Serve(ctx, s, p.relay); errors.As(err, &crashed) {
		p.cfg.Logger.Error("exchange crashed", zap.Error(err), zap.ByteString("stack", crashed.Stack))
	}
}

// converse writes and reads the control stream until the link ends, and says why it did.
func (p *Peers) converse(l *peerLink, in *bufio.Reader) error {
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() { l.write() })
	err := p.read(l, in)
	reason := tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the control stream has ended"}
	if errors.Is(err, wire.ErrProtocol) {
		reason = tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the control stream broke the rules"}
	}
	_ = l.Close(reason)
	<-l.Done()
	if errors.Is(err, wire.ErrProtocol) {
		return err
	}
	return l.Cause()
}

// Yield tells the peers that another process of this edge takes links from now on. The links that are here stay for what runs on
// them.
func (p *Peers) Yield() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.accepted {
		l.send(&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Goodbye{Goodbye: &tunnelv1.Goodbye{Code: tunnel.ReasonDrain}}})
	}
}

const (
	// sendsNoMore is for how long no peer must have sent anything for this process to believe that none will.
	sendsNoMore = 1500 * time.Millisecond
	// movesWithin is how long peers and connectors may take to go elsewhere; then only what runs is waited for.
	movesWithin = 10 * time.Second
)

// Drain waits until nothing of other edges runs here and none of them sends anything any more, or ctx ends. That they shall not is
// for Members to tell them, or Yield; until they have another way this one must stay open, connectors' links and all.
func (p *Peers) Drain(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := time.Unix(0, p.relayed.Load())
		if p.relaying.Load() == 0 && (time.Since(last) > sendsNoMore || time.Since(began) > movesWithin) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *peerLink) write() {
	for {
		select {
		case <-l.Done():
			return
		case m := <-l.out:
			if errors.Join(l.control.SetWriteDeadline(time.Now().Add(writeLimit)), wire.WritePeer(l.control, m)) != nil {
				_ = l.Close(tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the control stream is not read"})
				return
			}
		}
	}
}

// read acts on what the peer says.
func (p *Peers) read(l *peerLink, in *bufio.Reader) error {
	said := &hearing{edge: l.edge}
	for {
		m, err := wire.ReadPeer(in, wire.MaxControl)
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *tunnelv1.PeerControl_Holdings:
			if l.accepted {
				return fmt.Errorf("holdings on a link that the peer dialled: %w", wire.ErrProtocol)
			}
			a, err := said.part(m.Holdings)
			if err != nil {
				return err
			}
			if a != nil {
				l.heard(*a)
				p.cfg.Members.Announce(*a)
			}
		case *tunnelv1.PeerControl_Changes:
			changes, err := readChanges(m.Changes)
			if err != nil {
				return err
			}
			p.cfg.Changed(l.edge, changes)
		case *tunnelv1.PeerControl_Hello:
			return fmt.Errorf("a second hello: %w", wire.ErrProtocol)
		case *tunnelv1.PeerControl_Goodbye:
			if l.accepted || l.left {
				return fmt.Errorf("goodbye to one that dialled nothing, or twice: %w", wire.ErrProtocol)
			}
			l.left = true
			close(l.leaving)
		}
	}
}
