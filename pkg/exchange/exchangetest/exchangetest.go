// Package exchangetest is the suite that exchanges must pass over every kind of link, and the in-memory link on which
// their timers are tested. It is for tests only, and knows no transport.
package exchangetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// patience bounds every wait of the suite: a test that runs into it has failed. It is long because 64 MiB may take more than 20 s where the
// race detector looks on and the machine does much else.
const patience = 2 * time.Minute

// Links makes one admitted link and returns its ends; it cleans up with t.
type Links func(t *testing.T) (edge, connector tunnel.Link)

// Suite runs every case over links, with bodies that stay on the exchange's own stream.
func Suite(t *testing.T, links Links) {
	suite(t, func(t *testing.T) *pair { return newPair(t, links, nil) }, whole())
	suite(t, func(t *testing.T) *pair { return newPair(t, links, nil) }, cutShort())
}

// Relayed runs the cases of Suite over links with another process in between, which serves each exchange and does it again. It
// leaves those out in which a peer breaks the rules or its request off: the process in between learns it first, and the handler may
// never hear of such an exchange.
func Relayed(t *testing.T, links Links) {
	suite(t, func(t *testing.T) *pair { return newPair(t, links, nil) }, whole())
}

// tested is one case.
type tested struct {
	name string
	run  func(*testing.T, *pair)
}

func suite(t *testing.T, fresh func(*testing.T) *pair, cases []tested) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, fresh(t))
		})
	}
}

// cutShort are the cases in which a peer breaks rules or its request off.
func cutShort() []tested {
	return []tested{
		{"malformed", malformed},
		{"request aborted", requestAborted},
		{"request of another length", requestLength},
		{"request of a length that nobody counted", requestUncounted},
	}
}

func whole() []tested {
	return []tested{
		{"bodies", bodies},
		{"trailers", trailers},
		{"interim", interim},
		{"continue", expectContinue},
		{"continue refused", expectRefused},
		{"no body", noBody},
		{"answer aborted", answerAborted},
		{"answer never ended", neverEnded},
		{"handler panics", panics},
		{"answer of another length", answerLength},
		{"cancel before the head", cancelBeforeHead},
		{"cancel during the answer", cancelDuringAnswer},
		{"cancel during the request", cancelDuringRequest},
		{"close frees the handler", closeFrees},
		{"answer before the request ends", earlyAnswer},
		{"large answer before the request ends", earlyLargeAnswer},
		{"back-pressure", backPressure},
		{"upgrade", upgrade},
		{"upgrade broken", upgradeBroken},
		{"upgrade refused", upgradeRefused},
		{"many", many},
		{"link lost", linkLost},
	}
}

// handler adapts a function.
type handler func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer)

func (h handler) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	h(ctx, in, out)
}

// pair is a link with a connector that serves whatever handler is set.
type pair struct {
	edge   tunnel.Link
	served chan error // one per exchange that Serve has left
	bulk   *bulk      // nil: bodies stay
	number atomic.Uint64

	mu sync.Mutex
	h  exchange.Handler
}

func newPair(t *testing.T, links Links, bulk *bulk) *pair {
	edge, connector := links(t)
	p := &pair{edge: edge, bulk: bulk, served: make(chan error, 1024)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := connector.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() { p.serve(ctx, s) })
		}
	})
	t.Cleanup(func() {
		_ = edge.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		cancel()
		running.Wait()
	})
	return p
}

func (p *pair) serve(ctx context.Context, s tunnel.Stream) {
	kind, err := wire.ReadKind(s)
	if err != nil || kind != wire.StreamExchange {
		s.Reset(tunnel.ResetProtocol)
		return
	}
	p.mu.Lock()
	h := p.h
	p.mu.Unlock()
	p.served <- exchange.ServeMoving(ctx, s, h, p.bulk.connector())
}

// ask is exchange.Do on the pair's link, for an exchange of its own number.
func (p *pair) ask(ctx context.Context, req *exchange.Request) (*exchange.Response, error) {
	req.Head.Exchange, req.Head.Generation = p.number.Add(1), 7
	req.Moves = p.bulk.edge()
	return exchange.Do(ctx, p.edge, req)
}

func (p *pair) handle(h handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.h = h
}

// left waits until the connector's side of one exchange is over.
func (p *pair) left(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.served:
		return err
	case <-time.After(patience):
		t.Fatal("the connector still serves the exchange")
		return nil
	}
}

func head(method string, length int64) wire.RequestHead {
	return wire.RequestHead{
		Exchange: 1, RequestID: "r1", Tenant: "maple", Site: "main", App: "oscar", Method: method, Scheme: "https",
		Host: "oscar.maple.localhost:8443", Path: "/oscar/index.jsp", ContentLength: length,
		Header: wire.Header{{Name: "Accept", Value: "text/html"}, {Name: "X-Latin", Value: "caf\xe9"}},
	}
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (p *pair) do(t *testing.T, req *exchange.Request) *exchange.Response {
	t.Helper()
	resp, err := p.ask(limited(t), req)
	if err != nil {
		t.Fatalf("Do: %v", err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	return b
}

// wantAbort fails unless err is an abort with code.
func wantAbort(t *testing.T, err error, code string) {
	t.Helper()
	var abort *exchange.AbortError
	if !errors.As(err, &abort) {
		t.Fatalf("got %v, want an abort", err)
	}
	if abort.Code != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("timed out: %s", what)
	}
}

func digest(b []byte) [32]byte { return sha256.Sum256(b) }

// pattern returns n bytes in which a lost, doubled or swapped piece shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(n) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
