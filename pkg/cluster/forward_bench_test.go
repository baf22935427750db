package cluster

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// page is what the benchmark's connector answers with, bytes.
const page = 4 << 10

// quicConnector gives a node a connector over QUIC, as in earnest.
func quicConnector(b *testing.B, n *edgeNode, name id.Connector) {
	b.Helper()
	server, client := linktest.TLS(b)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := quiclink.NewListener(socket, server, quiclink.Config{})
	if err != nil {
		b.Fatal(err)
	}
	d := &quiclink.Dialer{}
	far, err := d.Dial(b.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
	if err != nil {
		b.Fatal(err)
	}
	near, err := listener.Accept(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	near.Admit()
	far.Admit()
	leave, err := n.registry.Join(registry.Member{
		Tenant: "maple", Site: "main", Connector: name, Generation: 1, Lane: tunnelv1.Lane_LANE_FAST, Link: near,
	})
	if err != nil {
		b.Fatal(err)
	}
	n.members.hold([]Holding{{Tenant: "maple", Site: "main", Connector: name, Generation: 1, Links: 1}})
	body := make([]byte, page)
	answer := handler(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: page, Header: wire.Header{{Name: "Content-Type", Value: "text/html"}}})
		_, _ = out.Write(body)
		_ = out.End(nil)
	})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := far.Accept(context.Background())
			if err != nil {
				return
			}
			running.Go(func() {
				if _, err := wire.ReadKind(s); err == nil {
					_ = exchange.Serve(context.Background(), s, answer)
				}
			})
		}
	})
	b.Cleanup(func() {
		leave()
		_ = far.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		running.Wait()
		_ = listener.Close()
		_ = socket.Close()
	})
}

// BenchmarkHop is an exchange of a page of 4 KiB over real links: from the edge that has the connector's link, and from another one.
// It has no browser's TLS, no decision and no origin, so that what the hop adds is to be seen, not what it is of the whole.
func BenchmarkHop(b *testing.B) {
	store := &memoryAuthority{}
	east, west := startEdgeNode(b, "east", store), startEdgeNode(b, "west", store)
	quicConnector(b, west, "con_1")
	introduce(east, west)
	until(b, east.members, "the connector", func() bool { return len(east.members.Holders("maple", "main")) == 1 })
	for _, c := range []struct {
		name string
		from *edgeNode
	}{{"direct", west}, {"forwarded", east}} {
		b.Run(c.name, func(b *testing.B) { benchmarkAsk(b, c.from) })
	}
}

func benchmarkAsk(b *testing.B, from *edgeNode) {
	began := cpu(b)
	took := make([]time.Duration, 0, b.N)
	buf := make([]byte, page)
	for b.Loop() {
		at := time.Now()
		resp, _, err := ask(b, from, b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
		took = append(took, time.Since(at))
	}
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(len(took))/1000, "cpu-µs/op")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
