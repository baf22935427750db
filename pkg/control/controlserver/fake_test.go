package controlserver_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// memLink is one end of a link in memory. Its keying material is what the test says, so that interception can be played.
type memLink struct {
	tunnel.Ending
	peer     *memLink
	incoming chan tunnel.Stream
	secret   string
	admitted bool
	rouses   bool         // streams that the peer opens rouse who reads them
	said     atomic.Int64 // writes of this end to the streams that it opened: a connector's is the control stream
	// repairable says that this end takes repair packets, repaired that it was told that the other one does.
	repairable bool
	repaired   atomic.Bool

	mu      sync.Mutex
	streams []net.Conn
}

func memPair() (dialed, accepted *memLink) {
	dialed = &memLink{incoming: make(chan tunnel.Stream, 4096), secret: "one TLS connection"}
	accepted = &memLink{incoming: make(chan tunnel.Stream, 4096), secret: dialed.secret}
	dialed.peer, accepted.peer = accepted, dialed
	return dialed, accepted
}

var (
	_ tunnel.Link     = (*memLink)(nil)
	_ tunnel.Repaired = (*memLink)(nil)
)

func (l *memLink) Open(context.Context) (tunnel.Stream, error) {
	if err := l.Cause(); err != nil {
		return nil, err
	}
	// A pipe each way, so that one can be closed without the other.
	hereIn, thereOut := net.Pipe()
	thereIn, hereOut := net.Pipe()
	here, there := &memStream{in: hereIn, out: hereOut}, &memStream{in: thereIn, out: thereOut}
	for link, s := range map[*memLink]*memStream{l: here, l.peer: there} {
		link.mu.Lock()
		link.streams = append(link.streams, s.in, s.out)
		link.mu.Unlock()
	}
	if l.peer.rouses {
		l.peer.incoming <- &rousingStream{there, bufio.NewReader(there)}
	} else {
		l.peer.incoming <- there
	}
	here.said = &l.said
	return here, nil
}

// first is this end of the stream that was opened first, which is the control stream.
func (l *memLink) first() *memStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &memStream{in: l.streams[0], out: l.streams[1]}
}

func (l *memLink) Accept(ctx context.Context) (tunnel.Stream, error) {
	select {
	case s := <-l.incoming:
		return s, nil
	case <-l.Done():
		return nil, l.Cause()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memLink) Admit() { l.admitted = true }

func (l *memLink) CanRepair() bool { return l.repairable }

func (l *memLink) Repair() { l.repaired.Store(true) }

func (l *memLink) Export(label string, _ []byte, n int) ([]byte, error) {
	out := []byte(label + l.secret + strings.Repeat("-", n))
	return out[len(out)-n-len(l.secret):][:n], nil
}

func (l *memLink) Close(reason tunnel.Reason) error {
	l.End(&tunnel.ClosedError{Reason: reason})
	l.peer.End(&tunnel.ClosedError{Reason: reason, Remote: true})
	// Streams after both ends know why, as on a real link: whoever reads gets the link's cause.
	for _, end := range []*memLink{l, l.peer} {
		end.mu.Lock()
		for _, s := range end.streams {
			_ = s.Close()
		}
		end.mu.Unlock()
	}
	return nil
}

func (l *memLink) Info() tunnel.Info { return tunnel.Info{Transport: "memory"} }

func (l *memLink) reason() string {
	if c := l.Closed(); c != nil {
		return c.Reason.Code
	}
	return ""
}

type memStream struct {
	in, out net.Conn
	said    *atomic.Int64 // nil: nobody counts
}

func (s *memStream) Read(p []byte) (int, error)         { return s.in.Read(p) }
func (s *memStream) SetReadDeadline(t time.Time) error  { return s.in.SetReadDeadline(t) }
func (s *memStream) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }
func (s *memStream) CloseWrite() error                  { return s.out.Close() }

func (s *memStream) Write(p []byte) (int, error) {
	if s.said != nil {
		s.said.Add(1)
	}
	return s.out.Write(p)
}

func (s *memStream) Reset(tunnel.ResetCode) {
	_ = s.in.Close()
	_ = s.out.Close()
}

// rousingStream says when there is something to read.
type rousingStream struct {
	*memStream
	ahead *bufio.Reader
}

func (s *rousingStream) Read(p []byte) (int, error) { return s.ahead.Read(p) }

// Rouse implements tunnel.Rousing, for who calls neither it nor Read until f was called.
func (s *rousingStream) Rouse(f func()) bool {
	go func() {
		_, _ = s.ahead.Peek(1)
		f()
	}()
	return true
}

// shelf is an enroll.Store in memory.
type shelf struct {
	enroll.Store
	mu         sync.Mutex
	connectors map[id.Connector]enroll.Connector
	generation uint64
	newest     string // instance
	onNext     func()
	onFound    func()
	invites    map[string]enroll.Invite
}

func (s *shelf) Connector(_ context.Context, c id.Connector) (enroll.Connector, error) {
	s.mu.Lock()
	known, ok := s.connectors[c]
	known.Newest = s.generation
	hook := s.onFound
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	if !ok {
		return enroll.Connector{}, fault.New(fault.NotFound, "no such connector")
	}
	return known, nil
}

func (s *shelf) JoinRun(_ context.Context, _ id.Connector, instance string, newest uint64) (enroll.Run, error) {
	s.mu.Lock()
	if s.newest != instance {
		if s.generation > newest {
			s.mu.Unlock()
			return enroll.Run{}, fault.New(fault.Conflict, "another process has come in meanwhile")
		}
		s.generation++
		s.newest = instance
	}
	run, hook := enroll.Run{Generation: s.generation}, s.onNext
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return run, nil
}

func (s *shelf) change(c id.Connector, f func(*enroll.Connector)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.connectors[c]
	f(&known)
	s.connectors[c] = known
}

func (s *shelf) CreateInvite(_ context.Context, i enroll.Invite) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invites[i.Hash] = i
	return nil
}

func (s *shelf) Enroll(_ context.Context, hash string, key ed25519.PublicKey, c id.Connector, _ time.Time) (enroll.Connector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.invites[hash]
	if !ok {
		return enroll.Connector{}, fault.New(fault.Denied, "no")
	}
	delete(s.invites, hash)
	s.connectors[c] = enroll.Connector{Tenant: i.Tenant, Site: i.Site, ID: c, PublicKey: key}
	return s.connectors[c], nil
}

// keyShelf is a token.KeyStore in memory.
type keyShelf struct{ keys []token.Key }

func (s *keyShelf) CreateKey(_ context.Context, k token.Key) error {
	s.keys = append(s.keys, k)
	return nil
}

func (s *keyShelf) RotateKey(ctx context.Context, k token.Key, notAfter, retired time.Time) error {
	for i := range s.keys {
		if s.keys[i].Kind == k.Kind {
			s.keys[i].NotAfter, s.keys[i].Retired = notAfter, retired
		}
	}
	return s.CreateKey(ctx, k)
}
func (s *keyShelf) Keys(context.Context) ([]token.Key, error) { return s.keys, nil }

const connectorID id.Connector = "con_00000000-0000-7000-8000-000000000001"

// world is an edge with one enrolled connector.
type world struct {
	store    *shelf
	ring     *token.Keyring
	registry *registry.Registry
	rules    *ruleShelf
	rouses   bool // of the edge's ends of its links
	server   *controlserver.Server
	key      ed25519.PrivateKey
}

// start is a time that the connector's sanity check takes for an edge's.
var start = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	t.Helper()
	began := time.Now()
	now := func() time.Time { return start.Add(time.Since(began)) } // synctest's clock begins in 2000
	ring, err := token.NewKeyring(t.Context(), &keyShelf{}, now)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	w := &world{
		store: &shelf{invites: map[string]enroll.Invite{}, connectors: map[id.Connector]enroll.Connector{
			connectorID: {Tenant: "maple", Site: "main", ID: connectorID, PublicKey: key.Public().(ed25519.PublicKey)},
		}},
		ring: ring, registry: registry.New(registry.Config{}), key: key, rules: &ruleShelf{},
	}
	w.server = controlserver.New(controlserver.Config{Keyring: ring, Enroll: w.store, Registry: w.registry, Ingress: w.rules, Now: now})
	return w
}

func (w *world) client() controlclient.Config {
	return controlclient.Config{
		Connector: connectorID, Key: w.key, Pinned: token.NewPinned(w.ring.RootPublic()), Clock: new(controlclient.Clock),
		Instance: strings.Repeat("a", 32), Lane: tunnelv1.Lane_LANE_FAST, Software: "test",
	}
}

// serve runs the edge's side; the channel gives ServeLink's error when it has returned.
func (w *world) serve(ctx context.Context, link tunnel.Link) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.server.ServeLink(ctx, link) }()
	return done
}

// peer is a connector that a test writes by hand.
type peer struct {
	t      *testing.T
	link   *memLink
	stream tunnel.Stream
	reader *bufio.Reader
}

func newPeer(t *testing.T, link *memLink) *peer {
	t.Helper()
	s, err := link.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t, link, s, bufio.NewReader(s)}
}

func newReader(s tunnel.Stream) *bufio.Reader { return bufio.NewReader(s) }

func (p *peer) send(m *tunnelv1.Control) error { return wire.WriteControl(p.stream, m) }

func (p *peer) read() (*tunnelv1.Control, error) { return wire.ReadControl(p.reader, wire.MaxControl) }

func (p *peer) kind(k byte) { _ = wire.WriteKind(p.stream, k) }

func hello() *tunnelv1.Hello {
	return &tunnelv1.Hello{
		Versions: []uint32{wire.Version}, Instance: strings.Repeat("b", 32), Nonce: make([]byte, 32),
		Connector: string(connectorID), Lane: tunnelv1.Lane_LANE_FAST,
	}
}

func helloMessage(h *tunnelv1.Hello) *tunnelv1.Control {
	return &tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: h}}
}

func registerMessage(proof string) *tunnelv1.Control {
	return &tunnelv1.Control{Message: &tunnelv1.Control_Register{Register: &tunnelv1.Register{Proof: proof}}}
}

func heartbeatMessage(n uint64) *tunnelv1.Control {
	return &tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: &tunnelv1.Heartbeat{Sequence: n}}}
}
