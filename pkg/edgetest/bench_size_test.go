package edgetest_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"runtime/debug"
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
	sizeConnectors = 2000
	perClinic      = 4
	perConnector   = 10 // sessions
	linksEach      = 4  // of a connector: two lanes to each of two edges
	sizeWorkers    = 16
	sizeIdle       = 10 * time.Second // for what was done to be collected, and to measure what idling takes
	sizeLook       = 500 * time.Millisecond
	sizeLimit      = 5 * time.Minute // for all links to be there
	atATime        = 100             // connectors that may be without links while more are started: all share this machine with the edges
	// sizeGarbage is GOGC of the benchmark's own process.
	sizeGarbage = 400
	// backAgain is the part of the sessions that come once more, and kept how many requests each of them sends over one connection in the
	// last round.
	backAgain, kept = 8, 5
)

// BenchmarkSize is 500 clinics with 2,000 connectors on three edge processes and one PostgreSQL: what a connector costs while it does
// nothing, what 20,000 people cost who each come once, and some again, and what happens to the links when an edge is killed and comes back.
// The connectors are real ones, in the benchmark's own process; a third of the requests reach an edge without a link of their
// connector and are sent on.
func BenchmarkSize(b *testing.B) {
	// Two thousand connectors hold a gigabyte, which all of them together would wait for if it were collected as often as usual.
	defer debug.SetGCPercent(debug.SetGCPercent(sizeGarbage))
	origin := httptest.NewServer(edgetest.StandIn())
	b.Cleanup(origin.Close)
	database := pgtest.Database(b)
	east := edgetest.Start(b, edgetest.Options{Store: database, Origin: origin.URL, Spread: true, NoConnector: true})
	s := &size{
		b: b, edges: []*edgetest.World{east, east.AddEdge("west"), east.AddEdge("north")}, origin: origin.URL, dir: b.TempDir(),
		members: sizeConnectors, database: database,
	}
	if text := os.Getenv(sizeEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < perClinic {
			b.Fatalf("%s: %q: want a number of connectors, %d or more", sizeEnv, text, perClinic)
		}
		s.members = n
	}
	s.clinics, s.cookies = s.members/perClinic, make([]string, s.members*perConnector)
	s.fill()
	for range b.N {
		s.measure()
	}
}

type size struct {
	b                     *testing.B
	edges                 []*edgetest.World
	origin, dir, database string
	clinics, members      int      // how many clinics and connectors
	cookies               []string // of each session
	rest                  usage    // a second, while all links are idle
}

// connectors starts all of them, some at a time, and returns when they have their links; they run until stop is called.
func (s *size) connectors() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	s.b.Cleanup(running.Wait)
	s.b.Cleanup(cancel)
	tick := time.NewTicker(sizeLook)
	defer tick.Stop()
	for n, began := 0, time.Now(); n < s.members; <-tick.C {
		linked := s.links(s.edges...) / linksEach
		for most := min(linked+atATime, s.members); n < most; n++ {
			member := s.connector(n)
			running.Go(func() { _ = member.Run(ctx) })
		}
		if time.Since(began) > sizeLimit {
			s.b.Fatalf("%d of %d connectors have links after %s", linked, s.members, sizeLimit)
		}
	}
	s.linked(s.members*linksEach, s.edges...)
	return func() {
		cancel()
		running.Wait()
	}
}

func (s *size) connector(n int) *connector.Connector {
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
	return member
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

var (
	linksMetric    = regexp.MustCompile(`(?m)^sallyport_registry_links\{[^}]*\} (\d+)$`)
	admittedMetric = regexp.MustCompile(`(?m)^sallyport_control_links_total\{result="admitted"\} (\d+)$`)
)

// links is how many there are at some edges.
func (s *size) links(edges ...*edgetest.World) int { return s.count(linksMetric, edges...) }

// count adds what edges say in a metric.
func (s *size) count(metric *regexp.Regexp, edges ...*edgetest.World) (total int) {
	for _, w := range edges {
		for _, m := range metric.FindAllStringSubmatch(metrics(s.b, w), -1) {
			n, _ := strconv.Atoi(m[1])
			total += n
		}
	}
	return total
}

// linked waits until edges have so many links, and returns how long that took.
func (s *size) linked(links int, edges ...*edgetest.World) time.Duration {
	s.b.Helper()
	took, n := s.filled(links, edges...)
	if n < links {
		s.b.Fatalf("%d of %d links after %s", n, links, took.Round(time.Second))
	}
	return took
}

// filled waits until edges have so many links, but not for longer than sizeLimit, and returns how long it waited and how many they
// have then.
func (s *size) filled(links int, edges ...*edgetest.World) (took time.Duration, n int) {
	s.b.Helper()
	tick := time.NewTicker(sizeLook)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		n, took = s.links(edges...), time.Since(began)
		if n >= links || took > sizeLimit {
			return took, n
		}
	}
}

// report notes a figure, at once too, so that one that fails later takes none with it.
func (s *size) report(figure float64, unit string) {
	s.b.ReportMetric(figure, unit)
	s.b.Logf("%.4g %s", figure, unit)
}

func (s *size) measure() {
	all, links := s.edges, float64(s.members*linksEach)
	s.idle() // what filling took is collected
	empty, alone := s.resident(), s.idle()
	before, began := s.usage(), time.Now()
	stop := s.connectors()
	defer stop()
	span := time.Since(began).Seconds()
	used, opened := s.usage().since(before), float64(s.count(admittedMetric, all...))
	s.report(span, "all-linked-s")
	s.report(opened/links, "opened/link")
	for range 3 {
		s.idle() // connectors act on a list of edges within half a minute
	}
	with, idle := s.resident(), s.idle()
	s.rest = idle
	// What the links that were there cost meanwhile, half of all on the average, is not what opening them cost.
	s.report((used.edges-span*(alone.edges+idle.edges)/2)/opened, "CPU-µs/link-opened")
	s.report((used.connectors-span*idle.connectors/2)/opened, "CPU-µs/link-opened-there")
	s.report((with-empty)/links/1024, "KiB/link")
	s.report((idle.edges-alone.edges)/links, "CPU-µs/link/s")
	s.report(idle.connectors/links, "CPU-µs/link/s-there")
	s.report(idle.database, "DB-CPU-µs/s")
	s.report(idle.commits, "DB-transactions/s")
	s.report(idle.wal, "WAL-B/s")
	s.report(s.files(), "files/edge")

	sessions, some := float64(len(s.cookies)), float64(len(s.cookies)/backAgain)
	first, failed := s.visits(len(s.cookies), 1)
	s.idle()
	people := s.resident()
	s.report((people-with)/sessions/1024, "KiB/session")
	s.report(first.edges/sessions, "CPU-µs/first-visit")
	s.report(first.commits/sessions, "DB-transactions/first-visit")
	again, more := s.visits(len(s.cookies)/backAgain, 1)
	failed += more
	s.report(again.edges/some, "CPU-µs/visit")
	stay, more := s.visits(len(s.cookies)/backAgain, kept)
	failed += more
	extra := some * (kept - 1)
	s.report((stay.edges-again.edges)/extra, "CPU-µs/request")
	s.report((stay.database-again.database)/extra, "DB-CPU-µs/request")
	s.report((stay.commits-again.commits)/extra, "DB-transactions/request")
	s.report((stay.wal-again.wal)/extra, "WAL-B/request")
	s.report((stay.size-again.size)/extra, "DB-B/request")
	s.report(float64(failed), "failed")
	s.report(s.resident()/1024/1024/float64(len(all)), "MiB/edge")
	s.lose(s.members * linksEach)
}

// lose kills an edge, and starts it again when its connectors have links elsewhere.
func (s *size) lose(links int) {
	lost, left := s.edges[len(s.edges)-1], s.edges[:len(s.edges)-1]
	s.edges = left // those whose processor time counts
	before := s.usage()
	moved := links - s.links(left...)
	lost.Edge.Kill()
	span := s.linked(links, left...).Seconds()
	s.report(span, "elsewhere-s")
	s.report((s.usage().since(before).edges-span*s.rest.edges)/float64(moved), "CPU-µs/link-moved")
	began := time.Now()
	lost.Edge.Start()
	lost.Wait("the edge to answer", func() error { _, err := lost.Try("tenant", "list"); return err })
	// Nine tenths of its share: which connectors are whose is chance.
	share := links / (len(left) + 1)
	_, n := s.filled(share*9/10, lost)
	s.report(time.Since(began).Seconds(), "refilled-s")
	s.report(float64(n)/float64(share)*100, "refilled-%") // below 90 if it was not that much after all
	s.edges = append(left, lost)
}
