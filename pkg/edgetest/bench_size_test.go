package edgetest_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

const (
	// sizeEnv is how many connectors there are, in place of sizeConnectors; there are a quarter as many clinics and ten times as
	// many sessions.
	sizeEnv        = "SALLYPORT_BENCH_CONNECTORS"
	sizeConnectors = 2_000
	perClinic      = 4
	perConnector   = 10 // sessions
	linksEach      = 4  // of a connector: two lanes to each of two edges
	sizeWorkers    = 32
	sizeIdle       = 20 * time.Second // for what was done to be collected, and to measure what idling takes
	sizeLimit      = 4 * time.Minute  // for all links to be there
	// kept is how many requests a session sends over one connection in the last round.
	kept = 3
)

// BenchmarkSize is 500 clinics with 2,000 connectors on three edge processes and one PostgreSQL: what a connector costs while it does
// nothing, what 20,000 people cost who each come once, and again, and what happens to the links when an edge is killed and comes back.
// The connectors are real ones, in the benchmark's own process; a third of the requests reach an edge without a link of their
// connector and are sent on.
func BenchmarkSize(b *testing.B) {
	origin := httptest.NewServer(edgetest.StandIn())
	b.Cleanup(origin.Close)
	database := pgtest.Database(b)
	east := edgetest.Start(b, edgetest.Options{Store: database, Origin: origin.URL, Spread: true, NoConnector: true})
	s := &size{
		b: b, edges: []*edgetest.World{east, east.AddEdge("west"), east.AddEdge("north")}, origin: origin.URL, dir: b.TempDir(),
		count: sizeConnectors, database: database,
	}
	if text := os.Getenv(sizeEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < perClinic {
			b.Fatalf("%s: %q: want a number of connectors, %d or more", sizeEnv, text, perClinic)
		}
		s.count = n
	}
	s.clinics, s.cookies = s.count/perClinic, make([]string, s.count*perConnector)
	s.fill()
	for range b.N {
		s.measure()
	}
}

type size struct {
	b                     *testing.B
	edges                 []*edgetest.World
	origin, dir, database string
	clinics, count        int      // how many clinics and connectors
	cookies               []string // of each session
}

// connectors runs all of them until stop is called.
func (s *size) connectors() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for n := range s.count {
		c := connector.Default()
		c.StateDir, c.Ingress, c.Loopback = s.state(n), s.ingress(n%s.clinics), ""
		// An address of its own, as clinics have: the edges' limits are for one address.
		own := net.IPv4(127, 1, byte(n>>8), byte(n))
		c.QUIC = &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) {
			return net.ListenUDP("udp4", &net.UDPAddr{IP: own})
		}}
		c.WebSocket = &wslink.Dialer{Connect: from(own)}
		member, err := connector.New(*c)
		if err != nil {
			s.b.Fatal(err)
		}
		running.Go(func() { _ = member.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// from dials edges, which all listen on 127.0.0.1, from an address. Go's resolver does not know the names under .localhost.
func from(own net.IP) func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: own}}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
}

var linksMetric = regexp.MustCompile(`(?m)^sallyport_registry_links\{[^}]*\} (\d+)$`)

// links is how many there are at some edges.
func (s *size) links(edges ...*edgetest.World) (total int) {
	for _, w := range edges {
		for _, m := range linksMetric.FindAllStringSubmatch(metrics(s.b, w), -1) {
			n, _ := strconv.Atoi(m[1])
			total += n
		}
	}
	return total
}

// linked waits until edges have so many links, and returns how long that took.
func (s *size) linked(links int, edges ...*edgetest.World) time.Duration {
	s.b.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		n := s.links(edges...)
		if n >= links {
			return time.Since(began)
		}
		if time.Since(began) > sizeLimit {
			s.b.Fatalf("%d of %d links after %s", n, links, time.Since(began).Round(time.Second))
		}
	}
}

func (s *size) measure() {
	b, all, links := s.b, len(s.edges), s.count*linksEach
	s.idle() // what filling took is collected
	empty, alone := s.resident(), s.idle()

	before := s.usage()
	stop := s.connectors()
	defer stop()
	b.ReportMetric(s.linked(links, s.edges...).Seconds(), "all-linked-s")
	b.ReportMetric(s.usage().since(before).edges/float64(links), "CPU-µs/link-opened")
	s.idle()
	with, idle := s.resident(), s.idle()
	b.ReportMetric((with-empty)/float64(links)/1024, "KiB/link")
	b.ReportMetric((idle.edges-alone.edges)/float64(links), "CPU-µs/link/s")
	b.ReportMetric(idle.database, "DB-CPU-µs/s")
	b.ReportMetric(idle.commits, "DB-transactions/s")
	b.ReportMetric(idle.wal, "WAL-B/s")
	b.ReportMetric(s.files(), "files/edge")

	sessions := float64(len(s.cookies))
	first, failed := s.everybody(1)
	s.idle()
	people := s.resident()
	b.ReportMetric((people-with)/sessions/1024, "KiB/session")
	b.ReportMetric(first.edges/sessions, "CPU-µs/first-visit")
	b.ReportMetric(first.commits/sessions, "DB-transactions/first-visit")
	again, more := s.everybody(1)
	failed += more
	b.ReportMetric(again.edges/sessions, "CPU-µs/visit")
	stay, more := s.everybody(kept)
	failed += more
	extra := sessions * (kept - 1)
	b.ReportMetric((stay.edges-again.edges)/extra, "CPU-µs/request")
	b.ReportMetric((stay.database-again.database)/extra, "DB-CPU-µs/request")
	b.ReportMetric((stay.commits-again.commits)/extra, "DB-transactions/request")
	b.ReportMetric((stay.wal-again.wal)/extra, "WAL-B/request")
	b.ReportMetric(float64(failed), "failed")
	b.ReportMetric(s.resident()/1024/1024/float64(all), "MiB/edge")
	s.lose(links)
}

// lose kills an edge, and starts it again when its connectors have links elsewhere.
func (s *size) lose(links int) {
	lost, left := s.edges[len(s.edges)-1], s.edges[:len(s.edges)-1]
	s.edges = left // those whose processor time counts
	before := s.usage()
	moved := links - s.links(left...)
	lost.Edge.Kill()
	s.b.ReportMetric(s.linked(links, left...).Seconds(), "elsewhere-s")
	s.b.ReportMetric(s.usage().since(before).edges/float64(moved), "CPU-µs/link-moved")
	began := time.Now()
	lost.Edge.Start()
	lost.Wait("the edge to answer", func() error { _, err := lost.Try("tenant", "list"); return err })
	// Nine tenths of its share: which connectors are whose is chance.
	s.linked(links*9/10/(len(left)+1), lost)
	s.b.ReportMetric(time.Since(began).Seconds(), "refilled-s")
	s.edges = append(left, lost)
}
