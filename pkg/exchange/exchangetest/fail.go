package exchangetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// answer returns a handler that writes n bytes of a body declared as length and then does last.
func answer(length int64, n int, last func(*exchange.Answer)) handler {
	return func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		_, _ = io.Copy(io.Discard, in.Body)
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: length})
		_, _ = out.Write(pattern(n))
		last(out)
	}
}

// wantBroken reads an answer's body and fails if it looks whole.
func wantBroken(t *testing.T, p *pair, code string) {
	t.Helper()
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	_, err := io.ReadAll(resp.Body)
	wantAbort(t, err, code)
	if _, again := resp.Body.Read(make([]byte, 1)); again == nil || again == io.EOF {
		t.Errorf("the next Read: %v", again)
	}
	_ = p.left(t)
}

func answerAborted(t *testing.T, p *pair) {
	for _, n := range []int{0, 10, 300_000} {
		for _, length := range []int64{-1, 1 << 20} {
			p.handle(answer(length, n, func(out *exchange.Answer) { out.Abort(wire.CodeOriginAbort, "it broke off") }))
			wantBroken(t, p, wire.CodeOriginAbort)
		}
	}
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		out.Abort(wire.CodeOriginRefused, "nobody there")
	})
	_, err := p.ask(limited(t), &exchange.Request{Head: head("GET", 0)})
	wantAbort(t, err, wire.CodeOriginRefused)
}

func neverEnded(t *testing.T, p *pair) {
	p.handle(answer(-1, 10, func(*exchange.Answer) {}))
	wantBroken(t, p, wire.CodeInternal)
}

func panics(t *testing.T, p *pair) {
	p.handle(answer(-1, 10, func(*exchange.Answer) { panic("on purpose") }))
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	_, err := io.ReadAll(resp.Body)
	wantAbort(t, err, wire.CodeInternal)
	var panicked *exchange.PanicError
	if err := p.left(t); !errors.As(err, &panicked) {
		t.Errorf("Serve: %v", err)
	}
	p.handle(echo)
	readAll(t, p.do(t, &exchange.Request{Head: head("GET", 0)}).Body)
}

// breaking is a body that fails after some bytes.
type breaking struct{ left int }

func (b *breaking) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the browser went away")
	}
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

// requestEnd sends a request and returns what the handler's read of the body ended with.
func requestEnd(t *testing.T, p *pair, req *exchange.Request) error {
	t.Helper()
	ended := make(chan error, 1)
	p.handle(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		_, err := io.Copy(io.Discard, in.Body)
		ended <- err
		_ = out.Head(wire.ResponseHead{Status: 400})
		_ = out.End(nil)
	})
	if resp, err := p.ask(limited(t), req); err == nil {
		_ = resp.Body.Close()
	}
	_ = p.left(t)
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatal("the handler still reads")
		return nil
	}
}

func requestAborted(t *testing.T, p *pair) {
	for _, n := range []int{0, 10, 300_000} {
		for _, length := range []int64{-1, 1 << 20} {
			err := requestEnd(t, p, &exchange.Request{Head: head("POST", length), Body: &breaking{left: n}})
			wantAbort(t, err, wire.CodeClientAbort)
		}
	}
}

func requestLength(t *testing.T, p *pair) {
	for _, body := range []string{"123456789", "12345678901"} {
		err := requestEnd(t, p, &exchange.Request{Head: head("POST", 10), Body: strings.NewReader(body)})
		wantAbort(t, err, wire.CodeClientAbort)
	}
}

// requestUncounted: a peer that does not keep its own count.
func requestUncounted(t *testing.T, p *pair) {
	for _, body := range []string{"123456789", "12345678901"} {
		ended := make(chan error, 1)
		p.handle(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
			_, err := io.Copy(io.Discard, in.Body)
			ended <- err
		})
		s, w := open(t, p)
		h := head("POST", 10)
		mustWrite(t, w.RequestHead(&h))
		_, err := io.WriteString(w, body)
		mustWrite(t, err, w.End(&wire.End{}))
		_ = w.Flush() // the reset may come while it runs
		wantAbort(t, <-ended, wire.CodeProtocol)
		wantReset(t, s)
		_ = p.left(t)
	}
}

func answerLength(t *testing.T, p *pair) {
	var ended error
	p.handle(answer(10, 9, func(out *exchange.Answer) { ended = out.End(nil) }))
	wantBroken(t, p, wire.CodeOriginAbort)
	wantAbort(t, ended, wire.CodeOriginAbort)
	p.handle(answer(10, 11, func(out *exchange.Answer) { ended = out.End(nil) }))
	wantBroken(t, p, wire.CodeOriginProtocol)
	wantAbort(t, ended, wire.CodeOriginProtocol)
}

func linkLost(t *testing.T, p *pair) {
	ended := make(chan struct{})
	p.handle(func(ctx context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		_, _ = out.Write([]byte("some"))
		_ = out.Flush()
		<-ctx.Done()
		close(ended)
	})
	resp := p.do(t, &exchange.Request{Head: head("GET", 0)})
	_ = p.edge.Close(tunnel.Reason{Code: tunnel.ReasonLost})
	_, err := io.ReadAll(resp.Body)
	wantAbort(t, err, wire.CodeTunnelDown)
	await(t, "the handler's context", ended)
	_, err = p.ask(limited(t), &exchange.Request{Head: head("GET", 0)})
	wantAbort(t, err, wire.CodeTunnelDown)
}

// open starts a stream by hand, for peers that break rules.
func open(t *testing.T, p *pair) (tunnel.Stream, *wire.Writer) {
	t.Helper()
	s, err := p.edge.Open(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	w := wire.NewWriter(s)
	w.Kind(wire.StreamExchange)
	return s, w
}

func mustWrite(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantReset(t *testing.T, s tunnel.Stream) {
	t.Helper()
	var reset *tunnel.ResetError
	if _, err := io.Copy(io.Discard, s); !errors.As(err, &reset) || !reset.Remote {
		t.Errorf("got %v, want a reset by the peer", err)
	}
}

func malformed(t *testing.T, p *pair) {
	for name, raw := range map[string][]byte{
		"unknown kind":  {77, 0, 0, 0},
		"unknown frame": {wire.StreamExchange, 0x3f, 0, 0, 0, 0},
		"too long":      {wire.StreamExchange, byte(wire.FrameRequestHead), 0xff, 0xff, 0xff, 0xff},
		"empty head":    {wire.StreamExchange, byte(wire.FrameRequestHead), 0, 0, 0, 0},
		"not a head":    {wire.StreamExchange, byte(wire.FrameEnd), 0, 0, 0, 0},
		"broken head":   {wire.StreamExchange, byte(wire.FrameRequestHead), 0, 0, 0, 2, 0x0a, 0x7f},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := p.edge.Open(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write(raw)
			wantReset(t, s)
		})
	}
	t.Run("smuggled entry", func(t *testing.T) {
		h := head("GET", 0)
		h.Header.Add("Content-Length", "5")
		_, err := p.ask(limited(t), &exchange.Request{Head: h})
		wantAbort(t, err, wire.CodeProtocol)
	})
	t.Run("moved", func(t *testing.T) {
		ended := make(chan error, 1)
		p.handle(func(_ context.Context, in *exchange.Incoming, _ *exchange.Answer) {
			_, err := io.Copy(io.Discard, in.Body)
			ended <- err
		})
		s, w := open(t, p)
		h := head("POST", -1)
		mustWrite(t, w.RequestHead(&h), w.Moved(&wire.Moved{Offset: 1, Lane: wire.LaneBulk}))
		_ = w.Flush() // the reset may come while it runs
		wantAbort(t, <-ended, wire.CodeProtocol)
		wantReset(t, s)
	})
	p.handle(echo)
	readAll(t, p.do(t, &exchange.Request{Head: head("GET", 0)}).Body)
}
