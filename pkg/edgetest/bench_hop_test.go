package edgetest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

const (
	hopWorkers = 16
	hopSpan    = 4 * time.Second
	hopRounds  = 3
)

// BenchmarkHop has people at work, with everything on, at the edge that has the connector's links and at another one, in turns. CPU is
// that of both edges and the connector, with 16 at a time; PostgreSQL and the origin are apart. The time is that of one at a time.
func BenchmarkHop(b *testing.B) {
	origin := httptest.NewServer(edgetest.StandIn())
	b.Cleanup(origin.Close)
	east, west := twoEdges(b, edgetest.Options{Origin: origin.URL})
	direct, forwarded := &hopSide{w: east, who: east.SignIn()}, &hopSide{w: west, who: west.SignIn()}
	b.ResetTimer()
	for range b.N {
		for range hopRounds {
			for _, s := range []*hopSide{direct, forwarded} {
				before := cpu(b, east.Edge.PID(), west.Edge.PID(), east.Connector.PID())
				s.requests += len(s.round(hopWorkers))
				s.used += cpu(b, east.Edge.PID(), west.Edge.PID(), east.Connector.PID()) - before
				s.alone = append(s.alone, s.round(1)...)
			}
		}
		b.ReportMetric(direct.cpu(), "direct-CPU-µs/request")
		b.ReportMetric(forwarded.cpu(), "forwarded-CPU-µs/request")
		b.ReportMetric(forwarded.cpu()/direct.cpu(), "CPU-ratio")
		b.ReportMetric(direct.p50(), "direct-p50-ms")
		b.ReportMetric(forwarded.p50(), "forwarded-p50-ms")
		b.ReportMetric(float64(direct.failed+forwarded.failed), "failed")
	}
	if direct.failed+forwarded.failed > 0 {
		b.Errorf("%d direct and %d forwarded requests failed", direct.failed, forwarded.failed)
	}
}

// hopSide is what was measured at one edge.
type hopSide struct {
	w        *edgetest.World
	who      *edgetest.Visitor
	used     time.Duration // for requests, which many sent at a time
	requests int
	alone    []time.Duration // how long each took that was alone
	failed   int
}

// round sends requests for a while, workers at a time, and returns how long each took.
func (s *hopSide) round(workers int) (took []time.Duration) {
	var all sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for range workers {
		all.Go(func() {
			for time.Since(began) < hopSpan {
				at := time.Now()
				resp, err := s.who.Fetch(context.Background(), http.MethodGet, s.w.URL("/oscar/echo?hop=1"), nil)
				if err == nil {
					_, err = edgetest.ReadAll(resp)
				}
				one := time.Since(at)
				mu.Lock()
				took = append(took, one)
				if err != nil || resp.StatusCode != http.StatusOK {
					s.failed++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took
}

func (s *hopSide) cpu() float64 { return float64(s.used.Microseconds()) / float64(s.requests) }

func (s *hopSide) p50() float64 {
	slices.Sort(s.alone)
	return float64(s.alone[len(s.alone)/2].Microseconds()) / 1000
}
