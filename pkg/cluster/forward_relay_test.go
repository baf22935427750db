package cluster

import (
	"context"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// TestAnExchangeSurvivesTheHop runs the suite of exchanges with another edge in between: the browser's edge is the near end of
// one link, the connector the far end of another.
func TestAnExchangeSurvivesTheHop(t *testing.T) {
	exchangetest.Relayed(t, hopped)
}

func hopped(t *testing.T) (edge, connector tunnel.Link) {
	near, here := exchangetest.Memory()
	there, far := exchangetest.Memory()
	r := &relay{count: func(string) {}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		defer cancel()
		for {
			s, err := here.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() {
				kind, err := wire.ReadKind(s)
				if err != nil || kind != wire.StreamExchange {
					s.Reset(tunnel.ResetProtocol)
					return
				}
				_ = exchange.Serve(ctx, s, &passing{r, there})
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = there.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		running.Wait()
	})
	return near, far
}

// passing is a relay that takes every exchange, for the suite's heads name no connector.
type passing struct {
	*relay
	link tunnel.Link
}

func (p *passing) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	resp, err := p.pass(ctx, in, out, &exchange.Request{Head: in.Head}, p.link)
	if err != nil {
		out.Abort(exchange.Code(err), message(err))
		return
	}
	p.carry(resp, out)
}

// nowhere has no links, and fails the test if a third edge is asked.
type nowhere struct{ asked int }

func (n *nowhere) PickRun(context.Context, id.Tenant, id.Site, id.Connector, uint64) (*registry.Member, bool) {
	n.asked++
	return nil, false
}

// TestNothingIsForwardedTwice: an exchange that has passed one edge is answered at once where the link is not, and anything else
// than one hop is no peer's exchange at all.
func TestNothingIsForwardedTwice(t *testing.T) {
	for _, c := range []struct {
		hop       uint32
		connector string
		code      string
	}{{1, "con_1", wire.CodeNotHere}, {0, "con_1", wire.CodeProtocol}, {2, "con_1", wire.CodeProtocol}, {1, "", wire.CodeProtocol}} {
		near, here := exchangetest.Memory()
		local := &nowhere{}
		r := &relay{local: local, count: func(string) {}}
		served := make(chan error, 1)
		go func() {
			s, err := here.Accept(t.Context())
			if err == nil {
				_, err = wire.ReadKind(s)
			}
			if err == nil {
				err = exchange.Serve(t.Context(), s, r)
			}
			served <- err
		}()
		_, err := exchange.Do(t.Context(), near, &exchange.Request{Head: wire.RequestHead{
			Tenant: "maple", Site: "main", App: "oscar", Method: "GET", Scheme: "https", Host: "oscar.example", Path: "/",
			Hop: c.hop, Connector: c.connector, Generation: 3,
		}})
		if exchange.Code(err) != c.code {
			t.Errorf("hop %d for %q: %v, want %s", c.hop, c.connector, err, c.code)
		}
		<-served
		if c.code == wire.CodeProtocol && local.asked > 0 {
			t.Errorf("hop %d: a link was looked for", c.hop)
		}
	}
}

// A connector that has gone quiet here is passed over for another one that a peer has, and not for itself there.
func TestAQuietConnectorYieldsToAnotherEdges(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	introduce(east, west)
	linked(t, east, west)
	connector(t, east, "con_1", 1, handler(hello))
	connector(t, west, "con_1", 1, handler(hello))
	holders := func(n int) {
		until(t, east.members, "what the other edge has", func() bool { return len(east.members.Holders("maple", "main")) == n })
	}
	holders(1)
	expect := func(when string, connector id.Connector, hop uint32) *registry.Member {
		t.Helper()
		m, err := east.forwarder.Pick(limited(t), "maple", "main", "")
		if err != nil {
			t.Fatal(err)
		}
		if m.Connector != connector || m.Hop != hop {
			t.Errorf("%s: %s over %d hops", when, m.Connector, m.Hop)
		}
		return m
	}
	m := expect("all is well", "con_1", 0)
	east.registry.Late("maple", "main", m.Link, 0)
	expect("quiet, and nobody else", "con_1", 0)
	connector(t, west, "con_2", 1, handler(hello))
	holders(2)
	for range 10 {
		expect("quiet", "con_2", 1)
	}
	m.Answered()
	expect("it is back", "con_1", 0)
}

// A connector that another edge has found quiet is passed over for one of which nobody has, and is the last choice.
func TestAConnectorThatIsQuietElsewhereIsPassedOver(t *testing.T) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store)
	introduce(east, west)
	linked(t, east, west)
	leave := connector(t, west, "con_1", 1, handler(hello))
	connector(t, west, "con_2", 1, handler(hello))
	said := func(quiet bool) {
		h := of("", "con_1", 1, 1)
		h.Quiet = quiet
		west.members.hold([]Holding{h})
		h.Edge = "west"
		until(t, east.members, "what the other edge says", func() bool { return east.peers.Way(h).Link != nil && east.peers.Way(h).QuietRun == quiet })
	}
	taken := func() map[id.Connector]int {
		out := map[id.Connector]int{}
		for range 32 {
			m, err := east.forwarder.Pick(limited(t), "maple", "main", "")
			if err != nil {
				t.Fatal(err)
			}
			out[m.Connector]++
		}
		return out
	}
	until(t, east.members, "both", func() bool { return len(east.members.Holders("maple", "main")) == 2 })
	said(true)
	if got := taken(); got["con_1"] != 0 {
		t.Errorf("while it is quiet: %v", got)
	}
	said(false)
	if got := taken(); got["con_1"] == 0 || got["con_2"] == 0 {
		t.Errorf("after it: %v", got)
	}
	said(true)
	west.members.hold([]Holding{of("", "con_2", 1, 0)})
	until(t, east.members, "the other one to go", func() bool { return len(east.members.Holders("maple", "main")) == 1 })
	if got := taken(); got["con_1"] == 0 {
		t.Errorf("alone: %v", got)
	}
	leave()
}
