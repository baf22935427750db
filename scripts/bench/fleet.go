package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

const (
	lanes     = 2 // a link each
	fleetEnv  = "SALLYPORT_BENCH_FLEET"
	settle    = 5 * time.Second
	quietFor  = 30 * time.Second // until what the arrival of all took is collected and given back
	backLimit = 2 * time.Minute
)

// fleet says how many connectors run in one process, where their states are, and where the edge listens.
type fleet struct {
	Size               int
	Dir, Ingress, Edge string
}

func (f fleet) member(i int) string { return filepath.Join(f.Dir, strconv.Itoa(i)) }

// runFleet is the role of a thousand clinics in one process: connectors of ours with everything but an origin.
func runFleet() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var f fleet
	if err := json.Unmarshal([]byte(os.Getenv(fleetEnv)), &f); err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range f.Size {
		c := connector.Default()
		c.StateDir, c.Ingress, c.Loopback = f.member(i), f.Ingress, ""
		c.QUIC, c.WebSocket = f.dialers(i)
		member, err := connector.New(*c)
		if err != nil {
			return fmt.Errorf("connector %d: %w", i, err)
		}
		running.Go(func() {
			if err := member.Run(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "connector:", err)
			}
		})
	}
	<-ctx.Done()
	return nil
}

// dialers give each connector an address of its own, as clinics have: the edge's limits are for one address.
func (f fleet) dialers(i int) (overQUIC, overTCP tunnel.Dialer) {
	own := net.IPv4(127, 1, byte(i>>8), byte(i))
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: own}}
	socket := func(context.Context, netip.AddrPort) (net.PacketConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: own})
	}
	connect := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, f.Edge)
	}
	return &quiclink.Dialer{Socket: socket}, &wslink.Dialer{Connect: connect}
}

// enrolFleet registers the connectors in the store of an edge that is not running: an edge rightly takes one enrolment a
// second from one address. What enrolment tells each comes from the one connector that enrolled before.
func (s *sallyport) enrolFleet(ctx context.Context, f fleet) error {
	identity, _, err := connector.LoadState(s.file("connector"))
	if err != nil {
		return err
	}
	sealer, err := secret.LoadMaster(s.file("edge/master.key"))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: s.file("edge/sallyport.db")}, sealer)
	if err != nil {
		return err
	}
	service := enroll.NewService(db.Enroll(), time.Now)
	for i := range f.Size {
		if err = enrolMember(ctx, service, identity, f.member(i)); err != nil {
			break
		}
	}
	return errors.Join(err, db.Close())
}

func enrolMember(ctx context.Context, service *enroll.Service, identity connector.Identity, dir string) error {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	code, _, err := service.Invite(ctx, identity.Tenant, identity.Site)
	if err != nil {
		return err
	}
	member, err := service.Enroll(ctx, code, public)
	if err != nil {
		return err
	}
	identity.Connector = member.ID
	text, errText := json.Marshal(identity)
	der, errKey := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(errText, errKey, os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "identity.json"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
	)
}

// idle is what a thousand idle connectors cost the edge, and how long they take to be back after it restarts.
func (b *bench) idle(ctx context.Context) error {
	here := &host{ip: "127.0.0.1"}
	s := &sallyport{bench: b, place: place{near: here, far: here, originAddr: "127.0.0.1:9"}, bin: b.bin, transport: "auto"}
	var err error
	if s.dir, err = os.MkdirTemp(b.dir, "fleet-"); err != nil {
		return err
	}
	if s.listen, err = b.address(here); err != nil {
		return err
	}
	if s.loopback, err = b.address(here); err != nil {
		return err
	}
	p := &path{}
	defer p.stop()
	if err := s.setUpEdge(ctx, p); err != nil {
		return err
	}
	if err := s.enrol(ctx); err != nil {
		return err
	}
	f := fleet{Size: b.connectors, Dir: s.file("members"), Ingress: s.file("ingress.yaml"), Edge: s.listen}
	alone, err := s.connectorAlone(ctx)
	if err != nil {
		return err
	}
	p.programs[0].stop()
	if err := s.enrolFleet(ctx, f); err != nil {
		return err
	}
	if p.programs[0], err = b.start(s.serveEdge()); err != nil {
		return err
	}
	edge := p.programs[0]
	pause(settle)
	var before memory
	if err := await(ctx, "the edge's metrics", []*program{edge}, func() (err error) {
		before, err = edge.memory(ctx, s.loopback)
		return err
	}); err != nil {
		return err
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	members, err := b.start(launch{name: "fleet", on: here, args: []string{b.self}, env: []string{roleEnv + "=fleet", fleetEnv + "=" + string(text)}})
	if err != nil {
		return err
	}
	p.programs = append(p.programs, members)
	if _, err := s.allLinked(ctx, p); err != nil {
		return err
	}
	links, err := s.settled(ctx)
	if err != nil {
		return err
	}
	after, err := edge.memory(ctx, s.loopback)
	if err != nil {
		return err
	}
	edge.stop()
	s.transport = "again" // names the profiles of the second edge
	if p.programs[0], err = b.start(s.serveEdge()); err != nil {
		return err
	}
	again, err := s.allLinked(ctx, p)
	if err != nil {
		return err
	}
	each, perLink := after.less(before).over(1024*float64(b.connectors)), float64(links)/float64(b.connectors)
	slices.Sort(again.answers)
	p50, worst := again.answers[len(again.answers)/2].Seconds()*ms, again.answers[len(again.answers)-1].Seconds()*ms
	some, whole, asked := again.some.Seconds(), again.whole.Seconds(), float64(len(again.answers))
	b.report.add(&table{
		Name:    "idle",
		Columns: []string{"KiB resident/connector", "of it heap", "stacks", "free", "links/connector", "all back s", "with all links s", "strangers asked", "answer p50 ms", "slowest ms", "MiB a connector"},
		Note:    fmt.Sprintf("%d idle connectors: what each adds to the edge's resident memory, and what one such connector holds itself; how long until the last is back after a restart of the edge, and what a stranger's page took meanwhile", b.connectors),
		Rows:    []row{{Name: "us", Figures: []*float64{&each.resident, &each.heap, &each.stacks, &each.free, &perLink, &some, &whole, &asked, &p50, &worst, &alone}}},
	})
	return nil
}

// connectorAlone is what the one connector that enrolled holds when its links have been quiet for a while, in MiB.
func (s *sallyport) connectorAlone(ctx context.Context) (float64, error) {
	one, err := s.start(s.runConnector())
	if err != nil {
		return 0, err
	}
	defer one.stop()
	err = await(ctx, "the links of one connector", []*program{one}, func() error {
		_, whole, _, err := s.linked(ctx)
		if err == nil && whole != 1 {
			err = errors.New("not all are there")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	pause(quietFor)
	held, err := resident(one)
	return held / (1 << 20), err
}

// linked is how many connectors have a link, how many have one for each lane, and how many links there are.
func (s *sallyport) linked(ctx context.Context) (some, whole, links int, err error) {
	resp, err := adminapi.Dial(s.file("edge/admin.sock")).ListConnectors(ctx, &adminv1.ListConnectorsRequest{Tenant: "bench"})
	if err != nil {
		return 0, 0, 0, err
	}
	for _, c := range resp.Connectors {
		links += len(c.Links)
		if len(c.Links) > 0 {
			some++
		}
		if len(c.Links) >= lanes {
			whole++
		}
	}
	return some, whole, links, nil
}

// settleLimit is how long links that others have taken the place of may stay.
const settleLimit = 40 * time.Second

// settled waits until the connectors have one link for each lane and no more, or settleLimit has passed, and then for what the
// edge still does; it returns how many links there are.
func (s *sallyport) settled(ctx context.Context) (links int, err error) {
	for began := time.Now(); time.Since(began) < settleLimit; pause(time.Second) {
		if _, _, links, err = s.linked(ctx); err != nil {
			return 0, err
		}
		if links == s.connectors*lanes {
			break
		}
	}
	pause(quietFor)
	return links, nil
}

// back is how a fleet came to an edge.
type back struct {
	some, whole time.Duration   // until every connector had a link, and one for each lane
	answers     []time.Duration // what a stranger's page took meanwhile
}

// allLinked waits until every connector has its links, and asks for a page as a stranger meanwhile, each time over a connection
// of its own, from the moment that the edge's admin socket answers.
func (s *sallyport) allLinked(ctx context.Context, p *path) (b back, err error) {
	ctx, cancel := context.WithTimeout(ctx, backLimit)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	members := p.programs[len(p.programs)-1]
	for some, whole := 0, 0; whole < s.connectors; {
		select {
		case <-ctx.Done():
			return b, fmt.Errorf("%d of %d connectors have a link, %d have all, after %s: %w; %s",
				some, s.connectors, whole, time.Since(began).Round(time.Second), ctx.Err(), members.tail())
		case <-members.done:
			return b, fmt.Errorf("the fleet ended: %s", members.tail())
		case <-tick.C:
		}
		var refused *connect.Error
		some, whole, _, err = s.linked(ctx)
		if errors.As(err, &refused) && refused.Code() == connect.CodeUnavailable {
			continue // it has not begun yet
		} else if err != nil && ctx.Err() == nil {
			return b, err
		}
		if b.some == 0 && some >= s.connectors {
			b.some = time.Since(began)
		}
		answer, err := s.stranger(ctx)
		if err != nil {
			return b, fmt.Errorf("a stranger's page while %d connectors are linked: %w", some, err)
		}
		b.answers = append(b.answers, answer)
	}
	b.whole = time.Since(began)
	return b, nil
}

// stranger asks for the app without a session; any answer of the edge's own is one.
func (s *sallyport) stranger(ctx context.Context) (time.Duration, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		// Whose certificate it is does not matter for the time that it takes.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.listen)
		},
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+appHost+"/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return time.Since(began), resp.Body.Close()
}
