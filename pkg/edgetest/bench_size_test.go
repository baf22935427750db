package edgetest_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// How large the cluster is, and how much of it there is of each.
const (
	sizeTenants    = 500
	sizeConnectors = 2_000
	sizeSessions   = 20_000
	sizeLinks      = 4 // of a connector: two lanes to each of two edges
	sizeWorkers    = 32
	sizeIdle       = 30 * time.Second
)

// BenchmarkSize is 500 clinics with 2,000 connectors on three edge processes and one PostgreSQL: what a connector costs while it does
// nothing, and what 20,000 people cost who each come once, and again. The connectors are real ones in the benchmark's own process.
func BenchmarkSize(b *testing.B) {
	origin := httptest.NewServer(edgetest.StandIn())
	b.Cleanup(origin.Close)
	database := pgtest.Database(b)
	east := edgetest.Start(b, edgetest.Options{Store: database, Origin: origin.URL, Spread: true, NoConnector: true})
	s := &size{b: b, edges: []*edgetest.World{east, east.AddEdge("west"), east.AddEdge("north")}, origin: origin.URL, dir: b.TempDir()}
	s.fill(database)
	for range b.N {
		s.measure()
	}
}

type size struct {
	b           *testing.B
	edges       []*edgetest.World
	origin, dir string
	cookies     [sizeSessions]string
}

func clinicName(i int) id.Tenant { return id.Tenant(fmt.Sprintf("c%d", i)) }
func clinicHost(i int) string    { return fmt.Sprintf("oscar.c%d.example", i) }

// fill makes what administration, enrolment and sign-in would, straight in the database: those are throttled, rightly.
func (s *size) fill(database string) {
	b, ctx := s.b, s.b.Context()
	sealer, err := secret.LoadMaster(filepath.Join(s.edges[0].Dir, "edge", "master.key"))
	if err != nil {
		b.Fatal(err)
	}
	db, err := store.Open(ctx, store.Config{PostgreSQL: store.PostgreSQL{URL: database}}, sealer)
	if err != nil {
		b.Fatal(err)
	}
	model, _, err := connector.LoadState(filepath.Join(s.edges[0].Dir, "connector"))
	if err != nil {
		b.Fatal(err)
	}
	service := enroll.NewService(db.Enroll(), time.Now)
	s.inParallel(8, sizeTenants, func(i int) error {
		if err := s.clinic(ctx, db, i); err != nil {
			return err
		}
		for n := i; n < sizeConnectors; n += sizeTenants {
			if err := s.enrol(ctx, service, model, i, n); err != nil {
				return err
			}
		}
		for n := i; n < sizeSessions; n += sizeTenants {
			if err := s.signIn(ctx, db, i, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}

func (s *size) clinic(ctx context.Context, db *store.DB, i int) error {
	now, name := time.Now(), clinicName(i)
	allow := policy.Rule{ID: "r", Effect: policy.Allow, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: "usr_lee"}}}
	return errors.Join(
		db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: name, SignInHost: fmt.Sprintf("signin.c%d.example", i), Created: now}),
		db.Tenants().CreateSite(ctx, tenant.Site{Tenant: name, ID: "main", Created: now}),
		db.Tenants().CreateApp(ctx, tenant.App{
			Tenant: name, ID: "app_1", Host: clinicHost(i), Path: "/", Site: "main", Name: "OSCAR", Rules: []policy.Rule{allow}, Created: now,
		}),
		db.Identity().CreateUser(ctx, identity.User{
			Tenant: name, ID: "usr_lee", Issuer: identity.LocalIssuer, Subject: "usr_lee", Email: "dr.lee@clinic.example", Created: now,
		}),
		os.WriteFile(s.ingress(i), fmt.Appendf(nil, "rules:\n  - host: %s\n    origin: %s\n  - status: 404\n", clinicHost(i), s.origin), 0o600),
	)
}

func (s *size) ingress(clinic int) string {
	return filepath.Join(s.dir, fmt.Sprintf("ingress%d.yaml", clinic))
}
func (s *size) state(n int) string { return filepath.Join(s.dir, fmt.Sprintf("connector%d", n)) }

func (s *size) enrol(ctx context.Context, service *enroll.Service, model connector.Identity, clinic, n int) error {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	code, _, err := service.Invite(ctx, clinicName(clinic), "main")
	if err != nil {
		return err
	}
	member, err := service.Enroll(ctx, code, public)
	if err != nil {
		return err
	}
	model.Tenant, model.Site, model.Connector = clinicName(clinic), "main", member.ID
	text, errText := json.Marshal(model)
	der, errKey := x509.MarshalPKCS8PrivateKey(key)
	return errors.Join(errText, errKey, os.Mkdir(s.state(n), 0o700),
		os.WriteFile(filepath.Join(s.state(n), "identity.json"), text, 0o600),
		os.WriteFile(filepath.Join(s.state(n), "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func (s *size) signIn(ctx context.Context, db *store.DB, clinic, n int) error {
	now, value, name := time.Now(), session.NewSecret(), clinicName(clinic)
	one := session.Session{
		Tenant: name, ID: id.NewSession(), User: "usr_lee", Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}
	s.cookies[n] = value
	return db.Sessions().CreateSession(ctx, one, session.Reference{
		Tenant: name, Hash: secret.Hash(value), Session: one.ID, Host: clinicHost(clinic), Created: now,
	})
}

// inParallel does count things, workers at a time.
func (s *size) inParallel(workers, count int, do func(i int) error) {
	s.b.Helper()
	next := make(chan int)
	failed := make(chan error, workers)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					select {
					case failed <- fmt.Errorf("%d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	all.Wait()
	select {
	case err := <-failed:
		s.b.Fatal(err)
	default:
	}
}

// connectors runs all of them until stop is called.
func (s *size) connectors() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for n := range sizeConnectors {
		c := connector.Default()
		c.StateDir, c.Ingress, c.Loopback = s.state(n), s.ingress(n%sizeTenants), ""
		// An address of its own, as clinics have: the edges' limits are for one address.
		own := net.IPv4(127, 1, byte(n>>8), byte(n))
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: own}}
		c.QUIC = &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) {
			return net.ListenUDP("udp4", &net.UDPAddr{IP: own})
		}}
		c.WebSocket = &wslink.Dialer{Connect: dialer.DialContext}
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

var linksMetric = regexp.MustCompile(`(?m)^sallyport_registry_links\{[^}]*\} (\d+)$`)

func (s *size) links() (total int) {
	for _, w := range s.edges {
		for _, m := range linksMetric.FindAllStringSubmatch(metrics(s.b, w), -1) {
			n, _ := strconv.Atoi(m[1])
			total += n
		}
	}
	return total
}

// resident is the memory of the edges together, bytes; used their CPU time.
func (s *size) resident() (total float64) {
	for _, w := range s.edges {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.Edge.PID()))
		if err != nil {
			s.b.Fatal(err)
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
		if err != nil {
			s.b.Fatal(err)
		}
		total += pages * float64(os.Getpagesize())
	}
	return total
}

func (s *size) used() time.Duration {
	var pids []int
	for _, w := range s.edges {
		pids = append(pids, w.Edge.PID())
	}
	return cpu(s.b, pids...)
}

// idle waits, and returns the share of one processor that the edges take meanwhile.
func (s *size) idle() float64 {
	before := s.used()
	<-time.After(sizeIdle)
	return (s.used() - before).Seconds() / sizeIdle.Seconds()
}

func (s *size) measure() {
	b := s.b
	s.idle() // what filling took is collected
	empty, alone := s.resident(), s.idle()
	began := time.Now()
	stop := s.connectors()
	defer stop()
	for s.links() < sizeConnectors*sizeLinks {
		if time.Since(began) > 5*time.Minute {
			b.Fatalf("%d links after %s", s.links(), time.Since(began))
		}
		<-time.After(time.Second)
	}
	b.ReportMetric(time.Since(began).Seconds(), "all-linked-s")
	s.idle()
	with, idle := s.resident(), s.idle()
	b.ReportMetric((with-empty)/sizeConnectors/sizeLinks/1024, "KiB/link")
	b.ReportMetric((with-empty)/sizeConnectors/1024, "KiB/connector")
	b.ReportMetric((idle-alone)/sizeConnectors*1e6, "CPU-µs/connector/s")

	first, failed := s.everybody()
	people := s.resident()
	b.ReportMetric((people-with)/sizeSessions/1024, "KiB/session")
	b.ReportMetric(first, "CPU-µs/first-request")
	again, more := s.everybody()
	b.ReportMetric(again, "CPU-µs/request")
	b.ReportMetric(float64(failed+more), "failed")
	b.ReportMetric(s.resident()/1024/1024/float64(len(s.edges)), "MiB/edge")
}

// everybody has each session ask once, at one edge after the other, and returns the edges' CPU for a request.
func (s *size) everybody() (micros float64, failed int64) {
	clients := make(chan *http.Client, sizeWorkers)
	for i := range sizeWorkers {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 0, byte(i+1))}}
		clients <- &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			MaxIdleConnsPerHost: -1, TLSClientConfig: &tls.Config{RootCAs: s.edges[0].Roots},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(address)
				return dialer.DialContext(ctx, network, "127.0.0.1:"+port)
			},
		}}
	}
	var mu sync.Mutex
	before := s.used()
	s.inParallel(sizeWorkers, sizeSessions, func(n int) error {
		c := <-clients
		defer func() { clients <- c }()
		if err := s.ask(c, n); err != nil {
			mu.Lock()
			defer mu.Unlock()
			if failed++; failed < 5 {
				s.b.Logf("session %d: %v", n, err)
			}
		}
		return nil
	})
	return float64((s.used() - before).Microseconds()) / sizeSessions, failed
}

func (s *size) ask(c *http.Client, n int) error {
	w := s.edges[n%len(s.edges)]
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s:%d/oscar/echo", clinicHost(n%sizeTenants), w.Port), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "none")
	r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: s.cookies[n]})
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
