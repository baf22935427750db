package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// edgeNode is one edge as far as others see it.
type edgeNode struct {
	members   *Members
	registry  *registry.Registry
	peers     *Peers
	forwarder *Forwarder
	heard     chan []change.Change
	stop      func()
}

func startEdgeNode(t testing.TB, name id.Edge, authority AuthorityStore, pending ...func() []change.Change) *edgeNode {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &edgeNode{members: NewMembers(name), registry: registry.New(registry.Config{}), heard: make(chan []change.Change, 64)}
	n.peers, err = NewPeers(t.Context(), PeersConfig{
		Members: n.members, Authority: authority, Socket: socket, Local: n.registry,
		Changed: func(_ id.Edge, c []change.Change) { n.heard <- c },
		Pending: func() (all []change.Change) {
			for _, p := range pending {
				all = append(all, p()...)
			}
			return all
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.forwarder = NewForwarder(n.registry, n.members, n.peers, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.peers.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = socket.Close()
	})
	t.Cleanup(n.stop)
	return n
}

// introduce tells each of the nodes where the others are, as the database does.
func introduce(nodes ...*edgeNode) {
	for _, n := range nodes {
		var v View
		for _, other := range nodes {
			v.Edges = append(v.Edges, Seen{Peer: Peer{ID: other.members.Self(), Address: other.peers.Addr().String()}, Known: true})
		}
		n.members.seen(v)
	}
}

// until waits for something about the members to be true.
func until(t testing.TB, m *Members, what string, true func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		changed := m.Changed()
		if true() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("waited for %s", what)
		}
	}
}

func linked(t testing.TB, from, to *edgeNode) {
	t.Helper()
	until(t, from.members, "a link", func() bool {
		return from.peers.linked(to.members.Self())
	})
}

// connector gives a node the link of a connector that handler is behind.
func connector(t testing.TB, n *edgeNode, name id.Connector, generation uint64, handler exchange.Handler) (leave func()) {
	t.Helper()
	near, far := exchangetest.Memory()
	left, err := n.registry.Join(registry.Member{
		Tenant: "maple", Site: "main", Connector: name, Generation: generation, Lane: tunnelv1.Lane_LANE_FAST, Link: near,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.members.hold([]Holding{{Tenant: "maple", Site: "main", Connector: name, Generation: generation, Links: 1}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := far.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() {
				if _, err := wire.ReadKind(s); err == nil {
					_ = exchange.Serve(ctx, s, handler)
				}
			})
		}
	})
	leave = sync.OnceFunc(func() {
		left()
		_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		cancel()
		running.Wait()
	})
	t.Cleanup(leave)
	return leave
}

type handler func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer)

func (h handler) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	h(ctx, in, out)
}

func hello(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
	_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: 5})
	_, _ = io.WriteString(out, "hello")
	_ = out.End(nil)
}

// ask sends a request from a node as proxy does.
func ask(t testing.TB, n *edgeNode, ctx context.Context, change func(*exchange.Request)) (*exchange.Response, *registry.Member, error) {
	t.Helper()
	m, err := n.forwarder.Pick(ctx, "maple", "main", "ses_1")
	if err != nil {
		return nil, nil, err
	}
	req := &exchange.Request{Moves: m.Moves(), Head: wire.RequestHead{
		Exchange: 1, Tenant: "maple", Site: "main", App: "oscar", Method: "GET", Scheme: "https", Host: "oscar.example", Path: "/",
		Generation: m.Generation, Hop: m.Hop, Connector: string(m.Connector),
	}}
	if change != nil {
		change(req)
	}
	resp, err := exchange.Do(ctx, m, req)
	return resp, m, err
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestARequestIsSentOnToTheEdgeWithTheLink(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	heads := make(chan wire.RequestHead, 1)
	leave := connector(t, west, "con_1", 7, handler(func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
		heads <- in.Head
		hello(ctx, in, out)
	}))
	introduce(east, west)
	linked(t, east, west)
	resp, m, err := ask(t, east, limited(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Hop != 1 || m.Connector != "con_1" || m.Generation != 7 {
		t.Errorf("%+v", m)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(text) != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
	head := <-heads
	if head.Hop != 1 || head.Connector != "" || head.Generation != 7 || head.Exchange < relayed {
		t.Errorf("the connector got %+v", head)
	}
	// A link of its own is what an edge takes first, and goes back from.
	gone := connector(t, east, "con_2", 1, handler(hello))
	if m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1"); err != nil || m.Hop != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	gone()
	if m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1"); err != nil || m.Hop != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	leave()
	west.members.hold([]Holding{{Tenant: "maple", Site: "main", Connector: "con_1"}})
	until(t, east.members, "the connector to be gone", func() bool { return len(east.members.Holders("maple", "main")) == 0 })
}

func TestLargeBodiesSurviveTheHop(t *testing.T) {
	const size = 8 << 20
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	connector(t, west, "con_1", 7, handler(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: in.Head.ContentLength})
		if _, err := io.Copy(out, in.Body); err != nil {
			out.Abort(exchange.Code(err), "")
			return
		}
		_ = out.End(nil)
	}))
	introduce(east, west)
	linked(t, east, west)
	sent, got := sha256.New(), sha256.New()
	resp, _, err := ask(t, east, limited(t), func(r *exchange.Request) {
		r.Head.Method, r.Head.ContentLength = "POST", size
		r.Body = io.TeeReader(io.LimitReader(&counting{}, size), sent)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(got, resp.Body)
	if err != nil || n != size || !slices.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

// counting is bytes in which a lost, doubled or swapped piece shows.
type counting struct{ x uint32 }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.x = c.x*1664525 + 1013904223
		p[i] = byte(c.x >> 24)
	}
	return len(p), nil
}

// Who does not have what it is asked for says so at once, and is not asked again; the request is not lost if another has it.
func TestAPeerWithoutTheLinkIsNotAskedAgain(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	west.members.hold([]Holding{{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 7, Links: 1}}) // and has no link
	introduce(east, west)
	until(t, east.members, "what the other holds", func() bool { return len(east.members.Holders("maple", "main")) == 1 })
	began := time.Now()
	_, m, err := ask(t, east, limited(t), nil)
	if exchange.Code(err) != wire.CodeNotHere {
		t.Fatalf("%v", err)
	}
	if took := time.Since(began); took > forwardWait/2 {
		t.Errorf("that took %s", took)
	}
	m.NotThere()
	north := startEdgeNode(t, "north", store)
	connector(t, north, "con_2", 1, handler(hello))
	introduce(east, west, north)
	if m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1"); err != nil || m.Connector != "con_2" {
		t.Errorf("%+v, %v", m, err)
	}
}

// A lease that ends at the first edge ends the exchange at the connector; a peer that dies ends it for the browser.
func TestTheHopEndsWithEitherSide(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	ended := make(chan struct{}, 2)
	connector(t, west, "con_1", 7, handler(func(ctx context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, _ = io.Copy(out, &counting{})
		<-ctx.Done()
		ended <- struct{}{}
	}))
	introduce(east, west)
	linked(t, east, west)
	ctx, cancel := context.WithCancel(limited(t))
	resp, _, err := ask(t, east, ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cancel()
	<-ended
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the connector learned of it after %s", took)
	}
	_ = resp.Body.Close()
	if resp, _, err = ask(t, east, limited(t), nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	west.stop()
	if _, err := io.Copy(io.Discard, resp.Body); exchange.Code(err) != wire.CodeTunnelDown {
		t.Errorf("it ended with %v", err)
	}
	<-ended
	until(t, east.members, "the peer to be gone", func() bool { return !east.peers.linked("west") })
}

func TestChangesReachEveryPeer(t *testing.T) {
	store := &memoryAuthority{}
	pending := change.Change{Tenant: "maple", Kind: change.User, ID: "usr_9"}
	east, west, north := startEdgeNode(t, "east", store, func() []change.Change { return []change.Change{pending} }), startEdgeNode(t, "west", store), startEdgeNode(t, "north", store)
	introduce(east, west, north)
	for _, pair := range [][2]*edgeNode{{east, west}, {east, north}, {west, east}, {north, east}} {
		linked(t, pair[0], pair[1])
	}
	said := change.Change{Tenant: "maple", Kind: change.Session, ID: "ses_1", Version: 42}
	if n := east.peers.Tell([]change.Change{said}); n != 2 {
		t.Errorf("told %d", n)
	}
	for _, n := range []*edgeNode{west, north} {
		var got []change.Change
		limit := time.After(patience)
		for !slices.Contains(got, said) || !slices.Contains(got, pending) {
			select {
			case c := <-n.heard:
				got = append(got, c...)
			case <-limit:
				t.Fatalf("%s heard %v", n.members.Self(), got)
			}
		}
	}
}

// Another cluster's edge at a peer's address gets no link and is sent nothing.
func TestStrangersAtAPeersAddress(t *testing.T) {
	ours, theirs := &memoryAuthority{}, &memoryAuthority{}
	east, west := startEdgeNode(t, "east", ours), startEdgeNode(t, "west", theirs)
	up, err := east.peers.dialOnce(limited(t), Peer{ID: "west", Address: west.peers.Addr().String()})
	if up || err == nil {
		t.Errorf("linked: %v", err)
	}
	north := startEdgeNode(t, "north", ours)
	if up, err := east.peers.dialOnce(limited(t), Peer{ID: "west", Address: north.peers.Addr().String()}); up || err == nil {
		t.Errorf("linked to another one than was dialled: %v", err)
	}
	if _, err := east.forwarder.Pick(short(t), "maple", "main", ""); err == nil {
		t.Error("picked a link")
	}
}

func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// A request waits for a link, here or elsewhere, whichever comes first.
func TestARequestWaitsForTheFirstLinkAnywhere(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	introduce(east, west)
	linked(t, east, west)
	picked := make(chan error, 1)
	go func() {
		m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1")
		if err == nil && m.Hop != 1 {
			err = errors.New("not over the hop")
		}
		picked <- err
	}()
	connector(t, west, "con_1", 1, handler(hello))
	if err := <-picked; err != nil {
		t.Error(err)
	}
}

// A process that gives its place to a successor keeps what runs on its links, while its peers open new ones.
func TestAPlaceIsHandedOnUnderWhatRuns(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	goOn := make(chan struct{})
	connector(t, west, "con_1", 7, handler(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, _ = io.WriteString(out, "before ")
		_ = out.Flush()
		<-goOn
		_, _ = io.WriteString(out, "and after")
		_ = out.End(nil)
	}))
	introduce(east, west)
	linked(t, east, west)
	resp, _, err := ask(t, east, limited(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadFull(resp.Body, make([]byte, len("before "))); err != nil {
		t.Fatal(err)
	}
	run := Holding{Tenant: "maple", Site: "main", Connector: "con_1", Edge: "west", Generation: 7}
	old := east.peers.Way(run).Link
	west.peers.Yield()
	until(t, east.members, "a new link", func() bool {
		now := east.peers.Way(run).Link
		return now != nil && now != old
	})
	select {
	case <-old.Done():
		t.Error("the old link is gone")
	default:
	}
	draining, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if west.peers.Drain(draining); draining.Err() == nil {
		t.Error("drained while something runs")
	}
	close(goOn)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "and after" {
		t.Errorf("%q, %v", rest, err)
	}
	west.peers.Drain(limited(t))
}
