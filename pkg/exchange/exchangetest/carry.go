package exchangetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// echo answers with the request's body, and with its length if it was declared.
func echo(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
	if err := out.Head(wire.ResponseHead{Status: 200, ContentLength: in.Head.ContentLength}); err != nil {
		out.Abort(wire.CodeInternal, err.Error())
		return
	}
	if _, err := io.Copy(out, in.Body); err != nil {
		out.Abort(exchange.Code(err), "")
		return
	}
	_ = out.End(nil)
}

func bodies(t *testing.T, p *pair) {
	p.handle(echo)
	for _, size := range []int{0, 1, 1 << 10, 4<<10 - 5, 32 << 10, 1<<20 + 7, 8 << 20} {
		for _, declared := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, declared %t", size, declared), func(t *testing.T) {
				body := pattern(size)
				req := &exchange.Request{Head: head("POST", int64(size)), Body: bytes.NewReader(body)}
				if !declared {
					req.Head.ContentLength = -1
				}
				resp := p.do(t, req)
				if resp.Head.Status != 200 || resp.Head.ContentLength != req.Head.ContentLength {
					t.Errorf("head: %+v", resp.Head)
				}
				if got := readAll(t, resp.Body); digest(got) != digest(body) {
					t.Errorf("%d bytes came back and differ", len(got))
				}
				if err := p.left(t); err != nil {
					t.Errorf("Serve: %v", err)
				}
				p.bulk.carried(t, size)
			})
		}
	}
}

func trailers(t *testing.T, p *pair) {
	want := wire.Header{{Name: "Digest", Value: "abc"}, {Name: "X-Count", Value: "3"}}
	p.handle(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		_, _ = io.Copy(io.Discard, in.Body)
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1, TrailerNames: []string{"Digest"}})
		_, _ = io.WriteString(out, "body")
		_ = out.End(in.Trailer())
	})
	req := &exchange.Request{
		Head: head("POST", -1), Body: strings.NewReader("x"), Trailer: func() wire.Header { return want },
	}
	resp := p.do(t, req)
	if resp.Trailer() != nil {
		t.Error("a trailer before the body")
	}
	readAll(t, resp.Body)
	if diff := cmp.Diff(want, resp.Trailer()); diff != "" {
		t.Error(diff)
	}
}

func interim(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Interim(wire.Interim{Status: 103, Header: wire.Header{{Name: "Link", Value: "</a.css>"}}})
		_ = out.Interim(wire.Interim{Status: 102})
		_ = out.Head(wire.ResponseHead{Status: 200})
		_ = out.End(nil)
	})
	var got []int
	resp := p.do(t, &exchange.Request{Head: head("GET", 0), Interim: func(i wire.Interim) error {
		got = append(got, i.Status)
		return nil
	}})
	readAll(t, resp.Body)
	if diff := cmp.Diff([]int{103, 102}, got); diff != "" {
		t.Error(diff)
	}
}

// gate is a body that notes when it is first read.
type gate struct {
	io.Reader
	once sync.Once
	read chan struct{}
}

func newGate(s string) *gate { return &gate{Reader: strings.NewReader(s), read: make(chan struct{})} }

func (g *gate) Read(p []byte) (int, error) {
	g.once.Do(func() { close(g.read) })
	return g.Reader.Read(p)
}

func expectContinue(t *testing.T, p *pair) {
	body := newGate("hello")
	req := &exchange.Request{Head: head("POST", 5), Body: body}
	req.Head.ExpectContinue = true
	p.handle(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		select {
		case <-body.read:
			out.Abort(wire.CodeInternal, "the body was read before 100")
			return
		default:
		}
		b, err := io.ReadAll(in.Body)
		if err != nil {
			return
		}
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: int64(len(b))})
		_, _ = out.Write(b)
		_ = out.End(nil)
	})
	var got []int
	req.Interim = func(i wire.Interim) error {
		got = append(got, i.Status)
		return nil
	}
	if b := readAll(t, p.do(t, req).Body); string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	if diff := cmp.Diff([]int{100}, got); diff != "" {
		t.Error(diff)
	}
}

func expectRefused(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 413})
		_ = out.End(nil)
	})
	body, done := newGate("hello"), make(chan struct{})
	req := &exchange.Request{Head: head("POST", 5), Body: body, BodyDone: func() { close(done) }}
	req.Head.ExpectContinue = true
	resp := p.do(t, req)
	readAll(t, resp.Body)
	await(t, "BodyDone", done)
	select {
	case <-body.read:
		t.Error("the body was read though nobody asked for it")
	default:
	}
	_ = p.left(t)
}

func noBody(t *testing.T, p *pair) {
	for _, c := range []struct {
		method string
		status int
		length int64
	}{{"HEAD", 200, 12345}, {"GET", 304, 77}, {"DELETE", 204, 0}, {"HEAD", 200, -1}} {
		p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
			_ = out.Head(wire.ResponseHead{Status: c.status, ContentLength: c.length})
			_ = out.End(nil)
		})
		resp := p.do(t, &exchange.Request{Head: head(c.method, 0)})
		if b := readAll(t, resp.Body); len(b) != 0 || resp.Head.ContentLength != c.length {
			t.Errorf("%+v: %d bytes, head %+v", c, len(b), resp.Head)
		}
		if err := p.left(t); err != nil {
			t.Errorf("%+v: Serve: %v", c, err)
		}
	}
}

func many(t *testing.T, p *pair) {
	p.handle(echo)
	var all sync.WaitGroup
	for i := range 200 { // of whose bodies not all may move at a time
		all.Go(func() {
			body := pattern(i * 331)
			req := &exchange.Request{Head: head("POST", int64(len(body))), Body: bytes.NewReader(body)}
			resp, err := p.ask(limited(t), req)
			if err != nil {
				t.Errorf("exchange %d: %v", i, err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("exchange %d: %d of %d bytes, %v", i, len(got), len(body), err)
			}
		})
	}
	all.Wait()
}
