package wslink_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// What an idle link may hold at the edge. The heap is twice what it does, so that only a new buffer fails (see DESIGN.md of tunnel).
const (
	heapCeiling      = 60 << 10
	goroutineCeiling = 3.5
)

func TestAnIdleLinkHoldsLittle(t *testing.T) {
	held := linktest.Idle(t, listenIdle, 50)
	t.Logf("%.0f bytes of heap, %.0f of stacks, %.1f goroutines", held.Heap, held.Stack, held.Goroutines)
	if held.Heap > heapCeiling || held.Goroutines > goroutineCeiling {
		t.Errorf("an idle link holds %.0f bytes and %.1f goroutines, want at most %d and %.0f", held.Heap, held.Goroutines, heapCeiling, goroutineCeiling)
	}
}

func BenchmarkIdle(b *testing.B) { linktest.BenchIdle(b, listenIdle) }

func listenIdle(t testing.TB, conf *tls.Config) (string, func(context.Context) (tunnel.Link, error)) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	results := serve(t, l, conf)
	return l.Addr().String(), func(ctx context.Context) (tunnel.Link, error) {
		select {
		case r := <-results:
			if err, failed := r.(error); failed {
				return nil, err
			}
			return r.(tunnel.Link), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
