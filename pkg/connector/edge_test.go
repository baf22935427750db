package connector_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

const host = "edge.localhost"

// testEdge is the part of an edge that a connector meets: TLS, both transports, admission, registry, store. Exchanges are
// opened by the test itself, which can be as hostile as it likes.
type testEdge struct {
	t        testing.TB
	db       *store.DB
	certs    *certs.Manager
	ring     *token.Keyring
	registry *registry.Registry
	port     int
	// superseded is how the registry treats older runs, from the next start on.
	superseded registry.Config

	server *controlserver.Server
	// openUDP begins to answer QUIC where start did not.
	openUDP func()
	stop    func()

	mu    sync.Mutex // guards links
	links []tunnel.Link
}

func newEdge(t testing.TB) *testEdge {
	t.Helper()
	dir := t.TempDir()
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	e := &testEdge{t: t}
	if e.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "edge.db")}, sealer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.db.Close() })
	if err := certs.InitLocalCA(filepath.Join(dir, "ca")); err != nil {
		t.Fatal(err)
	}
	e.certs, err = certs.New(certs.Config{LocalCA: filepath.Join(dir, "ca"), HostAllowed: func(h string) bool { return h == host }})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.db.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: "maple", Name: "Maple", SignInHost: "signin.maple.localhost", Zone: "UTC", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := e.db.Tenants().CreateSite(t.Context(), tenant.Site{Tenant: "maple", ID: "main", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if e.ring, err = token.NewKeyring(t.Context(), e.db.Keys(), time.Now); err != nil {
		t.Fatal(err)
	}
	e.start(true)
	t.Cleanup(func() { e.stop() })
	return e
}

// start listens, on the port of the last time if there was one; without UDP nobody answers QUIC.
func (e *testEdge) start(udp bool) {
	e.t.Helper()
	e.registry = registry.New(e.superseded)
	e.server = controlserver.New(controlserver.Config{Keyring: e.ring, Enroll: e.db.Enroll(), Registry: e.registry, Heartbeat: 500 * time.Millisecond})
	tcp, packets := e.listen()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	serve := func(link tunnel.Link) {
		e.mu.Lock()
		e.links = append(e.links, link)
		e.mu.Unlock()
		wg.Go(func() { _ = e.server.ServeLink(ctx, link) })
	}

	mux := http.NewServeMux()
	mux.Handle(controlserver.EnrollPath, e.server.EnrollHandler())
	mux.HandleFunc(wslink.Path, func(w http.ResponseWriter, r *http.Request) {
		if link, err := wslink.Accept(w, r, wslink.Config{}); err == nil {
			serve(link)
		}
	})
	https := httptest.NewUnstartedServer(mux)
	_ = https.Listener.Close()
	https.Listener = tcp
	https.TLS = e.certs.TLSConfig("http/1.1")
	https.Config.ErrorLog = nil
	https.StartTLS()

	var overQUIC *quiclink.Listener
	e.openUDP = func() {
		var err error
		if overQUIC, err = quiclink.NewListener(packets, e.certs.TLSConfig(tunnel.ALPN), quiclink.Config{}); err != nil {
			e.t.Fatal(err)
		}
		wg.Go(func() {
			for {
				link, err := overQUIC.Accept(ctx)
				if err != nil {
					return
				}
				serve(link)
			}
		})
	}
	if udp {
		e.openUDP()
	}
	e.stop = sync.OnceFunc(func() {
		e.server.Close()
		cancel()
		if overQUIC != nil {
			_ = overQUIC.Close()
		}
		_ = packets.Close()
		https.Close()
		wg.Wait()
	})
}

// listen takes one port for TCP and UDP.
func (e *testEdge) listen() (net.Listener, net.PacketConn) {
	e.t.Helper()
	for range 50 {
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", e.port))
		if err != nil {
			continue
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		packets, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = tcp.Close()
			continue
		}
		e.port = port
		return tcp, packets
	}
	e.t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

func (e *testEdge) url() string { return fmt.Sprintf("https://%s:%d", host, e.port) }

// enrol invites a connector and lets it enrol with the line that people paste.
func (e *testEdge) enrol(dir string) connector.Identity {
	e.t.Helper()
	code, _, err := enroll.NewService(e.db.Enroll(), time.Now).Invite(e.t.Context(), "maple", "main")
	if err != nil {
		e.t.Fatal(err)
	}
	line, err := enroll.Line(e.url(), code, e.certs.Pin(host))
	if err != nil {
		e.t.Fatal(err)
	}
	words := strings.Fields(line)
	identity, err := connector.Enroll(e.t.Context(), connector.Enrolment{StateDir: dir, Edge: words[2], Code: words[4], CAPin: words[6]})
	if err != nil {
		e.t.Fatal(err)
	}
	return identity
}

// origin is a clinic's server that remembers what reached it.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
	hold chan struct{} // requests for /slow wait for it, and those for /image after a MiB
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{hold: make(chan struct{})}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "sallyport-probe" {
			o.mu.Lock()
			o.seen = append(o.seen, r.RequestURI)
			o.mu.Unlock()
		}
		if r.URL.Path == "/slow" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-o.hold:
			case <-r.Context().Done():
				return
			}
		}
		if r.URL.Path == "/image" {
			for held := true; held; {
				_, _ = w.Write(make([]byte, 32<<10))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-o.hold:
					held = false
				case <-r.Context().Done():
					return
				}
			}
		}
		_, _ = io.WriteString(w, "chart of "+r.URL.Path)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.seen)
}

// clinic is a connector that runs beside an origin.
type clinic struct {
	*connector.Connector
	origin   *origin
	identity connector.Identity
	config   connector.Config
	stop     context.CancelFunc
	ended    chan error
}

// newClinic enrols a connector at e and runs it until the test ends. Its lanes shrink in no time.
func newClinic(t testing.TB, e *testEdge, transport string, tune ...func(*connector.Config)) *clinic {
	t.Helper()
	return startClinic(t, e, transport, (*connector.Connector).Hurry, tune...)
}

// newSteadyClinic is newClinic whose lanes take as long to shrink as they usually do: no link is given up while a test runs.
func newSteadyClinic(t testing.TB, e *testEdge, transport string, tune ...func(*connector.Config)) *clinic {
	t.Helper()
	return startClinic(t, e, transport, func(*connector.Connector) {}, tune...)
}

func startClinic(t testing.TB, e *testEdge, transport string, hurry func(*connector.Connector), tune ...func(*connector.Config)) *clinic {
	t.Helper()
	dir := t.TempDir()
	c := &clinic{origin: newOrigin(t), identity: e.enrol(filepath.Join(dir, "state")), ended: make(chan error, 1)}
	rules := filepath.Join(dir, "ingress.yaml")
	text := fmt.Sprintf("rules:\n- host: oscar.maple.localhost\n  origin: %s\n- service: status:404\n", c.origin.URL)
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.config = connector.Config{
		StateDir: filepath.Join(dir, "state"), Ingress: rules, Loopback: "127.0.0.1:0", Transport: transport, DrainTimeout: 10 * time.Second,
		Network: make(chan struct{}), // that of the machine that tests run on may change
	}
	for _, f := range tune {
		f(&c.config)
	}
	var err error
	c.Connector, err = connector.New(c.config)
	if err != nil {
		t.Fatal(err)
	}
	hurry(c.Connector)
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	go func() { c.ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-c.ended:
		case <-time.After(time.Minute):
			t.Error("the connector did not stop")
		}
	})
	return c
}

// end waits for Run to return.
func (c *clinic) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		return err
	case <-time.After(time.Minute):
		t.Fatal("the connector did not stop")
		return nil
	}
}

// ready waits until /ready says so.
func (c *clinic) ready(t testing.TB) connector.Status {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		status, code := c.get(t)
		if code == http.StatusOK {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %+v", status)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (c *clinic) get(t testing.TB) (connector.Status, int) {
	t.Helper()
	resp, err := http.Get("http://" + c.StatusAddr().String() + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s connector.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s, resp.StatusCode
}

// member waits for the connector's link at the edge.
func (e *testEdge) member(t testing.TB) *registry.Member {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if m, err := e.registry.Pick(t.Context(), "maple", "main", ""); err == nil {
			return m
		}
	}
	t.Fatal("the connector has no link")
	return nil
}

// open lists the links that connectors opened and that have not ended.
func (e *testEdge) open() (up []tunnel.Link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.links {
		if l.Cause() == nil {
			up = append(up, l)
		}
	}
	e.links = up
	return slices.Clone(up)
}

// claims are those of a good assertion for the member.
func claims(m *registry.Member) token.Claims {
	now := time.Now()
	return token.Claims{
		Issuer: token.AssertionIssuer, Subject: "usr_1", Kind: "user", Session: "ses_1", Tenant: m.Tenant, Site: m.Site, App: "app_1",
		Audience: []string{token.AssertionAudience(m.Connector, m.Generation)}, Connector: m.Connector, Generation: m.Generation,
		IssuedAt: now, Expires: now.Add(4 * time.Minute),
	}
}

// head is that of a good request to the member.
func head(m *registry.Member, assertion, path string) wire.RequestHead {
	return wire.RequestHead{
		Exchange: 1, RequestID: string(id.NewRequest()), Tenant: string(m.Tenant), Site: string(m.Site), App: "app_1",
		Method: "GET", Scheme: "https", Host: "oscar.maple.localhost", Path: path, Assertion: assertion, Generation: m.Generation,
		ClientIP: "192.0.2.1",
	}
}

func (e *testEdge) mint(t testing.TB, c token.Claims) string {
	t.Helper()
	raw, err := e.ring.Mint(token.Assertion, c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fetch runs one exchange to its end.
func fetch(t testing.TB, m *registry.Member, h wire.RequestHead) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := exchange.Do(ctx, m, &exchange.Request{Head: h})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
