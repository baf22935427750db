package exchangetest

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Where MovedSuite's bodies move.
const (
	AtOnce      = -1
	InTheMiddle = 5000
)

// MovedSuite runs every case of Suite, and those that are about moving, with all bodies that are longer than threshold
// moved to as many bulk links as there are stripes.
func MovedSuite(t *testing.T, fast, bulkLinks Links, stripes int, threshold int64) {
	fresh := func(t *testing.T) *pair { return newPair(t, fast, newBulk(t, bulkLinks, stripes, threshold)) }
	suite(t, fresh, whole())
	suite(t, fresh, cutShort())
	for _, c := range []struct {
		name string
		run  func(*testing.T, *pair)
	}{
		{"bulk link lost during the answer", bulkLostDown},
		{"bulk link lost during the request", bulkLostUp},
		{"link lost during the answer", fastLostDown},
		{"cancel while nobody reads", cancelBlocked},
		{"no lane", noLane},
		{"a lane that comes late", lateLane},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, fresh(t))
		})
	}
}

// bulk is the bulk links of a pair.
type bulk struct {
	edges, connectors   []tunnel.Link
	threshold           int64
	up, down            atomic.Int64
	done                sync.WaitGroup
	refuse              atomic.Bool
	onEdge, onConnector *exchange.Moves
}

func newBulk(t *testing.T, links Links, stripes int, threshold int64) *bulk {
	b := &bulk{threshold: threshold}
	b.onEdge = &exchange.Moves{Lanes: opening{b, &b.edges, &b.up}, Continuations: exchange.NewContinuations(), Threshold: threshold}
	b.onConnector = &exchange.Moves{Lanes: opening{b, &b.connectors, &b.down}, Continuations: exchange.NewContinuations(), Threshold: threshold}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range stripes {
		edge, connector := links(t)
		b.edges, b.connectors = append(b.edges, edge), append(b.connectors, connector)
		running.Go(func() { acceptContinuations(ctx, edge, b.onEdge.Continuations) })
		running.Go(func() { acceptContinuations(ctx, connector, b.onConnector.Continuations) })
	}
	t.Cleanup(func() {
		for _, link := range b.edges {
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		}
		cancel()
		running.Wait()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.done.Wait()
		}()
		await(t, "all moved bodies to be said to be done", done)
	})
	return b
}

// acceptContinuations takes each stream on its own, as edge and connector do: one that says nothing holds up no other.
func acceptContinuations(ctx context.Context, link tunnel.Link, table *exchange.Continuations) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s, err := link.Accept(ctx)
		if err != nil {
			return
		}
		all.Go(func() {
			if kind, err := wire.ReadKind(s); err != nil || kind != wire.StreamContinuation {
				s.Reset(tunnel.ResetProtocol)
				return
			}
			_ = table.Accept(s)
		})
	}
}

func (b *bulk) edge() *exchange.Moves {
	if b == nil {
		return nil
	}
	return b.onEdge
}

func (b *bulk) connector() *exchange.Moves {
	if b == nil {
		return nil
	}
	return b.onConnector
}

// carried fails if bodies of this size, up and down, have not moved since it was asked last.
func (b *bulk) carried(t *testing.T, size int) {
	t.Helper()
	if b == nil {
		return
	}
	want := int64(0)
	if int64(size) > max(b.threshold, 0) {
		want = 1
	}
	if up, down := b.up.Load(), b.down.Load(); up != want || down != want {
		t.Errorf("%d uploads and %d downloads moved, want %d of each", up, down, want)
	}
	b.up.Store(0)
	b.down.Store(0)
}

// opening opens one stream on each link.
type opening struct {
	*bulk
	links *[]tunnel.Link
	count *atomic.Int64
}

func (o opening) Move(ctx context.Context) (*exchange.Move, error) {
	if o.refuse.Load() {
		return nil, exchange.ErrNoBulk
	}
	move := &exchange.Move{Done: o.done.Done, Wait: func(ctx context.Context, _ int) error { return ctx.Err() }}
	for _, link := range *o.links {
		s, err := link.Open(ctx)
		if err != nil {
			for _, opened := range move.Streams {
				opened.Reset(tunnel.ResetCancelled)
			}
			return nil, err
		}
		move.Streams = append(move.Streams, s)
	}
	o.count.Add(1)
	o.done.Add(1)
	return move, nil
}

func (b *bulk) lose() { _ = b.edges[len(b.edges)-1].Close(tunnel.Reason{Code: tunnel.ReasonLost}) }

// endlessAnswer answers without an end and tells what became of it.
func endlessAnswer(p *pair) <-chan error {
	ended := make(chan error, 1)
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, err := io.Copy(out, &endless{})
		ended <- err
	})
	return ended
}

func bulkLostDown(t *testing.T, p *pair) {
	ended := endlessAnswer(p)
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	p.bulk.lose()
	_, err := io.Copy(io.Discard, resp.Body)
	wantAbort(t, err, wire.CodeTunnelDown)
	wantAbort(t, <-ended, wire.CodeTunnelDown)
	wantAbort(t, p.left(t), wire.CodeTunnelDown)
}

func bulkLostUp(t *testing.T, p *pair) {
	read, ended := make(chan struct{}), make(chan error, 1)
	p.handle(func(_ context.Context, in *exchange.Incoming, _ *exchange.Answer) {
		if _, err := io.CopyN(io.Discard, in.Body, 1<<20); err != nil {
			t.Error(err)
		}
		close(read)
		_, err := io.Copy(io.Discard, in.Body)
		ended <- err
	})
	go func() {
		<-read
		p.bulk.lose()
	}()
	done := make(chan struct{})
	_, err := p.ask(limited(t), &exchange.Request{Head: head("POST", -1), Body: &endless{}, BodyDone: func() { close(done) }})
	wantAbort(t, err, wire.CodeTunnelDown)
	wantAbort(t, <-ended, wire.CodeTunnelDown)
	await(t, "BodyDone", done)
	_ = p.left(t)
}

func fastLostDown(t *testing.T, p *pair) {
	ended := endlessAnswer(p)
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = p.edge.Close(tunnel.Reason{Code: tunnel.ReasonLost})
	_, err := io.Copy(io.Discard, resp.Body)
	wantAbort(t, err, wire.CodeTunnelDown)
	if err := <-ended; err == nil {
		t.Error("the answer went on without its exchange")
	}
	_ = p.left(t)
}

// cancelBlocked: both bodies stand still because nobody reads them, and a cancel frees everybody all the same.
func cancelBlocked(t *testing.T, p *pair) {
	started, ended := make(chan struct{}), make(chan error, 1)
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_ = out.Flush()
		close(started)
		_, err := io.Copy(out, &endless{})
		ended <- err
	})
	ctx, cancel := context.WithCancelCause(limited(t))
	done := make(chan struct{})
	resp, err := p.ask(ctx, &exchange.Request{Head: head("POST", -1), Body: &endless{}, BodyDone: func() { close(done) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	<-started
	revoked := errors.New("revoked")
	cancel(revoked)
	await(t, "BodyDone", done)
	if err := <-ended; err == nil {
		t.Error("the answer has an end")
	}
	_, err = io.Copy(io.Discard, resp.Body)
	wantAbort(t, err, wire.CodeClientAbort)
	_ = p.left(t)
}

// noLane: a body that cannot move goes on where it is.
func noLane(t *testing.T, p *pair) {
	p.bulk.refuse.Store(true)
	p.handle(echo)
	body := pattern(1 << 20)
	resp := p.do(t, &exchange.Request{Head: head("POST", int64(len(body))), Body: &once{b: body}})
	if got := readAll(t, resp.Body); digest(got) != digest(body) {
		t.Errorf("%d bytes came back and differ", len(got))
	}
	if err := p.left(t); err != nil {
		t.Error(err)
	}
}

// lateLane: a body that could not move does so soon after it can.
func lateLane(t *testing.T, p *pair) {
	p.bulk.refuse.Store(true)
	ended := endlessAnswer(p)
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	resp, err := p.ask(ctx, &exchange.Request{Head: head("GET", 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	p.bulk.refuse.Store(false)
	// What the windows held, and then some.
	const soon = 16 << 20
	if n, err := io.CopyN(io.Discard, resp.Body, soon); err != nil {
		t.Fatal(n, err)
	}
	if got := p.bulk.down.Load(); got != 1 {
		t.Errorf("%d bodies moved", got)
	}
	cancel()
	<-ended
	_ = p.left(t)
}

// once is a body without io.WriterTo.
type once struct{ b []byte }

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, o.b)
	o.b = o.b[n:]
	return n, nil
}
