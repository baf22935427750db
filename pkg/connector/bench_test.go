package connector

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// BenchmarkExchange is a small GET from a link through the checks to an origin over TCP and back, 64 at a time. The edge's half of the
// exchange and the link, both in memory, are part of it.
func BenchmarkExchange(b *testing.B) {
	rules, faults := ingress.Load([]byte("rules:\n  - origin: http://" + bareOrigin(b) + "\n    parallel: 128\n"))
	if len(faults) > 0 {
		b.Fatal(faults)
	}
	metrics := metric.New()
	in := ingress.New(ingress.Config{Rules: rules, Metrics: metrics})
	defer in.Close()
	g := testGate(&verdicts{claims: goodClaims(time.Now().Add(time.Hour))}, in)
	near, far := exchangetest.Memory()
	var serving sync.WaitGroup
	serving.Go(func() { g.serve(&controlclient.Link{Link: far, Generation: 7}, &work{}) })
	defer serving.Wait()
	defer near.Close(tunnel.Reason{Code: tunnel.ReasonLost})
	head := wire.RequestHead{
		Method: "GET", Tenant: "maple", Site: "main", App: "app_1", Generation: 7, Assertion: strings.Repeat("x", 700),
		Scheme: "https", Host: "oscar.maple.localhost", Path: "/oscar/login.do", ClientIP: "10.0.0.1", RequestID: "req_1",
	}
	for _, name := range []string{"Accept", "Accept-Language", "Accept-Encoding", "Cookie", "User-Agent"} {
		head.Header.Add(name, "a value as browsers send it")
	}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := exchange.Do(context.Background(), near, &exchange.Request{Head: head})
			if err != nil {
				b.Error(err)
				return
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != 1<<10 || err != nil {
				b.Error(n, err)
			}
			_ = resp.Body.Close()
		}
	})
}

// bareOrigin answers every request alike, and allocates nothing for it.
func bareOrigin(b *testing.B) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nContent-Length: 1024\r\n\r\n" +
		strings.Repeat("x", 1<<10))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadSlice('\n')
					if err != nil {
						_ = c.Close()
						return
					}
					if len(line) == 2 {
						_, _ = c.Write(answer)
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
