package exchange_test

import (
	"bytes"
	"context"
	"io"
	"sync"
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

// BenchmarkBody is a download of 16 MiB: on the exchange's own stream, and moved to one bulk link and to four.
func BenchmarkBody(b *testing.B) {
	const size = 16 << 20
	for _, c := range []struct {
		name  string
		fast  func(testing.TB) (edge, connector tunnel.Link)
		bulk  int
		lanes func(testing.TB) (edge, connector tunnel.Link)
	}{
		{"quic/unmoved", overQUIC, 0, nil},
		{"websocket/unmoved", overWebSocket, 0, nil},
		{"quic/moved to 1 websocket", overQUIC, 1, overWebSocket},
		{"quic/moved to 4 websockets", overQUIC, 4, overWebSocket},
	} {
		b.Run(c.name, func(b *testing.B) {
			edge, connector := c.fast(b)
			var up, down *exchange.Moves
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			if c.bulk > 0 {
				up = &exchange.Moves{Continuations: exchange.NewContinuations()}
				var links []tunnel.Link
				for range c.bulk {
					here, there := c.lanes(b)
					links = append(links, there)
					running.Go(func() { takeContinuations(ctx, here, up.Continuations) })
				}
				down = &exchange.Moves{Lanes: to(links)}
			}
			running.Go(func() { serveBodies(ctx, connector, size, down) })
			b.SetBytes(size)
			b.ReportAllocs()
			for number := uint64(1); b.Loop(); number++ {
				head := get()
				head.Exchange, head.Generation = number, theGeneration
				resp, err := exchange.Do(ctx, edge, &exchange.Request{Head: head, Moves: up})
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
					b.Fatal(n, err)
				}
				_ = resp.Body.Close()
			}
			cancel()
			running.Wait()
		})
	}
}

// to is lanes that are not paced.
type to []tunnel.Link

func (l to) Move(ctx context.Context) (*exchange.Move, error) {
	move := &exchange.Move{}
	for _, link := range l {
		s, err := link.Open(ctx)
		if err != nil {
			for _, opened := range move.Streams {
				opened.Reset(tunnel.ResetCancelled)
			}
			return nil, err
		}
		move.Streams = append(move.Streams, s)
	}
	return move, nil
}

func takeContinuations(ctx context.Context, link tunnel.Link, table *exchange.Continuations) {
	for {
		s, err := link.Accept(ctx)
		if err != nil {
			return
		}
		if _, err := wire.ReadKind(s); err == nil {
			_ = table.Accept(s)
		}
	}
}

func serveBodies(ctx context.Context, connector tunnel.Link, size int64, moves *exchange.Moves) {
	h := handler(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: size})
		_, _ = io.Copy(out, io.LimitReader(zeros{}, size))
		_ = out.End(nil)
	})
	var running sync.WaitGroup
	defer running.Wait()
	for {
		s, err := connector.Accept(ctx)
		if err != nil {
			return
		}
		running.Go(func() {
			if _, err := wire.ReadKind(s); err == nil {
				_ = exchange.ServeMoving(ctx, s, h, moves)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
