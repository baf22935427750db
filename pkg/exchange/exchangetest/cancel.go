package exchangetest

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// endless is a body without an end.
type endless struct{ sent atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.sent.Add(int64(len(p)))
	return len(p), nil
}

func cancelBeforeHead(t *testing.T, p *pair) {
	started, ended := make(chan struct{}), make(chan struct{})
	p.handle(func(ctx context.Context, _ *exchange.Incoming, _ *exchange.Answer) {
		close(started)
		<-ctx.Done()
		close(ended)
	})
	ctx, cancel := context.WithCancelCause(limited(t))
	revoked := errors.New("revoked")
	go func() {
		<-started
		cancel(revoked)
	}()
	_, err := p.ask(ctx, &exchange.Request{Head: head("GET", 0)})
	wantAbort(t, err, wire.CodeClientAbort)
	if !errors.Is(err, revoked) {
		t.Errorf("%v does not say why", err)
	}
	await(t, "the handler's context", ended)
	wantAbort(t, p.left(t), wire.CodeClientAbort)
}

func cancelDuringAnswer(t *testing.T, p *pair) {
	ended := make(chan error, 1)
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, err := io.Copy(out, &endless{})
		ended <- err
	})
	ctx, cancel := context.WithCancel(limited(t))
	resp, err := p.ask(ctx, &exchange.Request{Head: head("GET", 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, resp.Body)
	wantAbort(t, err, wire.CodeClientAbort)
	wantAbort(t, p.left(t), wire.CodeClientAbort)
	wantAbort(t, <-ended, wire.CodeClientAbort)
}

// cancelDuringRequest cancels while the handler is busy with something else than reading an unfinished body.
func cancelDuringRequest(t *testing.T, p *pair) {
	started, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.handle(func(ctx context.Context, _ *exchange.Incoming, _ *exchange.Answer) {
		close(started)
		<-ctx.Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(limited(t))
	go func() {
		<-started
		cancel()
	}()
	_, err := p.ask(ctx, &exchange.Request{
		Head: head("POST", -1), Body: &endless{}, BodyDone: func() { close(done) },
	})
	wantAbort(t, err, wire.CodeClientAbort)
	await(t, "BodyDone", done)
	await(t, "the handler's context", ended)
	_ = p.left(t)
}

func closeFrees(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, _ = io.Copy(out, &endless{})
	})
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
	wantAbort(t, p.left(t), wire.CodeClientAbort)

	// Who read exactly the declared bytes has not cancelled anything.
	p.handle(answer(10, 10, func(out *exchange.Answer) { _ = out.End(nil) }))
	resp = p.do(t, &exchange.Request{Head: head("GET", 0)})
	if _, err := io.CopyN(io.Discard, resp.Body, 10); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if err := p.left(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func earlyAnswer(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 413, ContentLength: 3})
		_, _ = io.WriteString(out, "big")
		_ = out.End(nil)
	})
	done := make(chan struct{})
	resp := p.do(t, &exchange.Request{
		Head: head("POST", -1), Body: &endless{}, BodyDone: func() { close(done) },
	})
	if b := readAll(t, resp.Body); string(b) != "big" || resp.Head.Status != 413 {
		t.Errorf("%d %q", resp.Head.Status, b)
	}
	await(t, "BodyDone", done)
	// Who has the whole answer stops its upload by a reset, which may come before the last write of the answer returns:
	// then Serve cannot know that it arrived.
	if err := p.left(t); err != nil && exchange.Code(err) != wire.CodeClientAbort {
		t.Errorf("Serve: %v", err)
	}
}

// earlyLargeAnswer: nobody reads the answer before the whole request is sent, as many HTTP/1.1 clients do.
func earlyLargeAnswer(t *testing.T, p *pair) {
	const size = 4 << 20
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: 1000})
		_, _ = out.Write(pattern(1000))
		_ = out.End(nil)
	})
	done := make(chan struct{})
	resp := p.do(t, &exchange.Request{
		Head: head("POST", size), Body: io.LimitReader(&endless{}, size), BodyDone: func() { close(done) },
	})
	await(t, "the request to go out", done)
	if b := readAll(t, resp.Body); len(b) != 1000 {
		t.Errorf("%d bytes", len(b))
	}
	_ = p.left(t)
}

func backPressure(t *testing.T, p *pair) {
	const size = 64 << 20
	var body endless
	written := make(chan int64, 1)
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		n, _ := io.Copy(out, io.LimitReader(&body, size))
		written <- n
		_ = out.End(nil)
	})
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-written:
		t.Fatalf("%d bytes went out though only 1 MiB was read", n)
	default:
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size-1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n := <-written; n != size {
		t.Errorf("written %d", n)
	}
}
