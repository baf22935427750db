package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

const (
	// peerIdle and peerPing find a dead peer in 3.5 s: requests that are sent to it wait for no longer.
	peerIdle = 4 * time.Second
	peerPing = time.Second
	// peerRest is how long a link must have been up for its successor to be dialled without waiting.
	peerRest = 50 * time.Millisecond
	// peerStreams is how many exchanges run over one link at a time; the next ones wait at their first edge. It is more than an edge
	// lets in (guard.LimitConfig.InFlight): were it about what one clinic may have at work, one would hold up all others here.
	peerStreams = 1 << 15
	// peerStreamWindow and peerLinkWindow are how many bytes of one exchange and of all may wait at an edge for a browser, or for a
	// connector, that takes them slowly. The second is no limit, for when it is reached everybody waits for the slow ones: one clinic
	// may have a quarter of it at most.
	peerStreamWindow = 256 << 10
	peerLinkWindow   = 4 << 30
	// peerHandshake bounds dialling, and the hellos after it.
	peerHandshake = 5 * time.Second
	// peerQueue is how many control messages may wait for a peer; one that falls behind further gets a new link.
	peerQueue = 1024
)

// PeersConfig is what Peers are made of. All but Changed, ResetKey, Now, Logger and Metrics is required.
type PeersConfig struct {
	Members   *Members
	Authority AuthorityStore
	// Socket is the UDP socket of cluster.listen. It stays the caller's to close.
	Socket net.PacketConn
	// Local is what peers' exchanges are served from.
	Local Local
	// Changed is told what a peer says has changed. It must return soon.
	Changed func(from id.Edge, changes []change.Change)
	// Pending is what a peer is told first: revocations that the store has not been told of. It is called without any lock.
	Pending func() []change.Change
	// ResetKey lets peers of a process that died learn it from the next one at once (RFC 9000 §10.3); the same for all processes
	// of an edge, and for no other edge.
	ResetKey *[32]byte
	// ConnectionID is quiclink.Config's, for a socket that several processes share.
	ConnectionID func() []byte
	Now          func() time.Time
	Logger       *zap.Logger
	Metrics      *metric.Registry
}

// Peers are the links between this edge and the others. Every edge dials every other one: exchanges go only over links that their
// sender dialled, and what a peer holds is said on the link that leads to it. So the two directions need not know of each other, and
// there is no question of which of two links counts. It is safe for concurrent use.
type Peers struct {
	cfg         PeersConfig
	credentials *credentials
	instance    string
	listener    *quiclink.Listener
	dialer      *quiclink.Dialer
	relay       *relay
	relaying    atomic.Int64 // exchanges of other edges that run now
	relayed     atomic.Int64 // when the last one began, Unix nanoseconds
	gauge       *prometheus.GaugeVec

	mu       sync.Mutex              // guards all below
	dialled  map[id.Edge][]*peerLink // the newest last; those before it lead to processes that give their place to another
	accepted map[*peerLink]struct{}
	dialling map[id.Edge]*dialling
	closed   bool
	serving  sync.WaitGroup // a goroutine is added only while closed is false
}

// NewPeers reads or makes the cluster's authority and begins to listen; nothing is accepted or dialled before Run.
func NewPeers(ctx context.Context, cfg PeersConfig) (*Peers, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	if cfg.Changed == nil {
		cfg.Changed = func(id.Edge, []change.Change) {}
	}
	if cfg.Pending == nil {
		cfg.Pending = func() []change.Change { return nil }
	}
	a, err := openAuthority(ctx, cfg.Authority, cfg.Now)
	if err != nil {
		return nil, err
	}
	instance := make([]byte, 16)
	_, _ = rand.Read(instance) // never fails: it ends the process instead
	p := &Peers{
		cfg: cfg, credentials: newCredentials(a, cfg.Members.Self()), instance: hex.EncodeToString(instance),
		dialled: map[id.Edge][]*peerLink{}, accepted: map[*peerLink]struct{}{}, dialling: map[id.Edge]*dialling{},
		gauge: cfg.Metrics.Gauge("sallyport_cluster_peer_links", "Links to and from other edges.", "direction"),
	}
	relayed := cfg.Metrics.Counter("sallyport_cluster_relayed_total", "Exchanges of other edges, by what became of them here.", "result")
	p.relay = &relay{local: cfg.Local, count: func(result string) { relayed.WithLabelValues(result).Inc() }}
	conf := quiclink.Config{
		ALPN: tunnel.ALPNPeer, Idle: peerIdle, KeepAlive: peerPing, Handshake: peerHandshake, MaxIncoming: peerStreams,
		StreamWindow: peerStreamWindow, LinkWindow: peerLinkWindow,
	}
	p.dialer = &quiclink.Dialer{Config: conf}
	p.dialer.Config.MaxIncoming = 1 // nothing is sent the other way
	conf.StatelessResetKey, conf.ConnectionID = cfg.ResetKey, cfg.ConnectionID
	if p.listener, err = quiclink.NewListener(cfg.Socket, p.credentials.server(), conf); err != nil {
		return nil, fmt.Errorf("cluster.listen: %w", err)
	}
	return p, nil
}

// Addr is where other edges are taken.
func (p *Peers) Addr() net.Addr { return p.listener.Addr() }

// Run takes and dials peers until ctx ends, then closes every link.
func (p *Peers) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.start(func() { p.dialAll(ctx) })
	err := p.accept(ctx)
	cancel()
	p.mu.Lock()
	p.closed = true
	links := make([]*peerLink, 0, len(p.dialled)+len(p.accepted))
	for _, to := range p.dialled {
		links = append(links, to...)
	}
	for l := range p.accepted {
		links = append(links, l)
	}
	p.mu.Unlock()
	var closing sync.WaitGroup
	for _, l := range links {
		closing.Go(func() { _ = l.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the edge stops"}) })
	}
	closing.Wait()
	p.serving.Wait()
	return errors.Join(err, p.listener.Close())
}

// start runs f until it returns; Run waits for it. False: Run has ended.
func (p *Peers) start(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.serving.Go(f)
	return true
}

func (p *Peers) accept(ctx context.Context) error {
	for {
		link, err := p.listener.Accept(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return nil //nolint:nilerr // that ends the work, and is no failure
		default:
			return err
		}
		if !p.start(func() { p.serve(ctx, link) }) {
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the edge stops"})
		}
	}
}

// Way is how exchanges for a run go over another edge.
type Way struct {
	// Link leads to the edge; nil: there is none.
	Link tunnel.Link
	// Quiet says that nothing has come over it although something should have: another edge is better. QuietRun says that the edge
	// said so of the run: another connector is better.
	Quiet, QuietRun bool
	// Once says that the edge and the run know wire.RequestHead.Again.
	Once bool
}

// Way is the one to what a peer holds: the newest link whose process has said that it holds the run. While a process of the peer
// gives its place to another one there are two links; and where one has died, what the next one holds may be read in the database
// while the only link still leads to the dead.
func (p *Peers) Way(h Holding) Way {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.dialled[h.Edge]) {
		if run, ok := l.holds(h); ok {
			return Way{Link: l.Link, Quiet: l.isQuiet(p.cfg.Now()), QuietRun: run.Quiet, Once: run.Once}
		}
	}
	return Way{}
}

// linked reports whether there is a link to the edge.
func (p *Peers) linked(edge id.Edge) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dialled[edge]) > 0
}

// Tell sends changes to every peer that there is a link to, or from, and returns how many those are.
func (p *Peers) Tell(changes []change.Change) int {
	p.mu.Lock()
	to := map[id.Edge]*peerLink{}
	for l := range p.accepted {
		to[l.edge] = l
	}
	for edge, links := range p.dialled {
		to[edge] = links[len(links)-1]
	}
	p.mu.Unlock()
	for _, l := range to {
		l.changes(changes)
	}
	return len(to)
}

// enter makes a link one of those that are used. What it takes the place of ends by itself.
func (p *Peers) enter(l *peerLink) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if l.accepted {
		p.accepted[l] = struct{}{}
	} else {
		p.dialled[l.edge] = append(p.dialled[l.edge], l)
	}
	p.count()
	return true
}

func (p *Peers) leave(l *peerLink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.accepted, l)
	p.dialled[l.edge] = slices.DeleteFunc(p.dialled[l.edge], func(o *peerLink) bool { return o == l })
	if len(p.dialled[l.edge]) == 0 {
		delete(p.dialled, l.edge)
	}
	p.count()
}

// count is called under mu.
func (p *Peers) count() {
	p.gauge.WithLabelValues("to").Set(float64(len(p.dialled)))
	p.gauge.WithLabelValues("from").Set(float64(len(p.accepted)))
}
