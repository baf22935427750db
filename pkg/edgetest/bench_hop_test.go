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
	hopSpan    = 5 * time.Second
	hopRounds  = 3
)

// BenchmarkHop has people at work, with everything on, at the edge that has the connector's links and at another one, in turns. CPU is
// that of both edges and the connector; PostgreSQL and the origin are apart.
func BenchmarkHop(b *testing.B) {
	origin := httptest.NewServer(edgetest.StandIn())
	b.Cleanup(origin.Close)
	east, west := twoEdges(b, edgetest.Options{Origin: origin.URL})
	direct, forwarded := &hopSide{w: east, who: east.SignIn()}, &hopSide{w: west, who: west.SignIn()}
	b.ResetTimer()
	for range b.N {
		for range hopRounds {
			for _, s := range []*hopSide{direct, forwarded} {
				s.round(b, east.Edge.PID(), west.Edge.PID(), east.Connector.PID())
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
	w      *edgetest.World
	who    *edgetest.Visitor
	used   time.Duration
	took   []time.Duration
	failed int
}

func (s *hopSide) round(b *testing.B, pids ...int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	before, began := cpu(b, pids...), time.Now()
	for range hopWorkers {
		all.Go(func() {
			for time.Since(began) < hopSpan {
				at := time.Now()
				resp, err := s.who.Fetch(context.Background(), http.MethodGet, s.w.URL("/oscar/echo?hop=1"), nil)
				if err == nil {
					_, err = edgetest.ReadAll(resp)
				}
				took := time.Since(at)
				mu.Lock()
				s.took = append(s.took, took)
				if err != nil || resp.StatusCode != http.StatusOK {
					s.failed++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	s.used += cpu(b, pids...) - before
}

func (s *hopSide) cpu() float64 { return float64(s.used.Microseconds()) / float64(len(s.took)) }

func (s *hopSide) p50() float64 {
	slices.Sort(s.took)
	return float64(s.took[len(s.took)/2].Microseconds()) / 1000
}
