package exchange_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// BenchmarkExchange is a 1 KiB echo, one after the other.
func BenchmarkExchange(b *testing.B) {
	for _, c := range []struct {
		name  string
		links func(testing.TB) (edge, connector tunnel.Link)
	}{
		{"memory", func(testing.TB) (edge, connector tunnel.Link) { return exchangetest.Memory() }},
		{"quic", overQUIC},
		{"websocket", overWebSocket},
	} {
		b.Run(c.name, func(b *testing.B) {
			edge, connector := c.links(b)
			done := make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				defer close(done)
				acceptAll(ctx, connector)
			}()
			body := make([]byte, 1<<10)
			b.ReportAllocs()
			for b.Loop() {
				echoOnce(b, ctx, edge, body)
			}
			cancel()
			<-done
		})
	}
}

func acceptAll(ctx context.Context, connector tunnel.Link) {
	echo := handler(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: in.Head.ContentLength})
		_, _ = io.Copy(out, in.Body)
		_ = out.End(nil)
	})
	for {
		s, err := connector.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			if _, err := wire.ReadKind(s); err == nil {
				_ = exchange.Serve(ctx, s, echo)
			}
		}()
	}
}

func echoOnce(b *testing.B, ctx context.Context, edge tunnel.Link, body []byte) {
	head := get()
	head.Method, head.ContentLength = "POST", int64(len(body))
	resp, err := exchange.Do(ctx, edge, &exchange.Request{Head: head, Body: bytes.NewReader(body)})
	if err != nil {
		b.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(body)) {
		b.Fatal(n, err)
	}
	_ = resp.Body.Close()
}
