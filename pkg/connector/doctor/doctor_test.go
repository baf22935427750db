package doctor_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

const host = "edge.localhost"

// edge is as much of one as a doctor meets: TLS and HTTP on TCP, QUIC on the same port.
type edge struct {
	url, pin string
	port     int
}

type edgeOptions struct {
	name     string // "" means host
	issuer   string
	from, to time.Time // zero: good now
	noUDP    bool
	stranger bool             // it has no certificate for the name that it is asked for, and says so, as an edge does
	now      func() time.Time // for the Date field; nil: net/http's own
}

func startEdge(t *testing.T, o edgeOptions) edge {
	t.Helper()
	if o.name == "" {
		o.name = host
	}
	if o.issuer == "" {
		o.issuer = "Clinic IT CA"
	}
	if o.to.IsZero() {
		o.from, o.to = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	certificate, pin := certificate(t, o)
	tcp, udp := listen(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.now != nil {
			w.Header().Set("Date", o.now().UTC().Format(http.TimeFormat))
		}
		http.NotFound(w, r)
	}))
	_ = server.Listener.Close()
	server.Listener, server.TLS = tcp, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	var strange func(*tls.ClientHelloInfo) (*tls.Config, error)
	if o.stranger {
		strange = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{tunnel.ALPN, "http/1.1"}}, nil
		}
	}
	server.TLS.GetConfigForClient = strange
	server.StartTLS()
	t.Cleanup(server.Close)
	port := tcp.Addr().(*net.TCPAddr).Port
	if !o.noUDP {
		links, err := quiclink.NewListener(udp, &tls.Config{
			Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{tunnel.ALPN},
			GetConfigForClient: strange,
		}, quiclink.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = links.Close() })
	}
	return edge{url: fmt.Sprintf("https://%s:%d", host, port), pin: pin, port: port}
}

// listen takes one port for both; without a QUIC listener the socket stays open and says nothing, as behind a firewall.
func listen(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp4", tcp.Addr().String())
		if err == nil {
			t.Cleanup(func() { _ = udp.Close() })
			return tcp, udp
		}
		_ = tcp.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func certificate(t *testing.T, o edgeOptions) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: o.issuer}, NotBefore: time.Now().Add(-1000 * 24 * time.Hour), NotAfter: time.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{o.name}, NotBefore: o.from, NotAfter: o.to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: key}, certs.Pin(parsed)
}

// visit makes a configuration before enrolment, with nothing of this machine's environment.
func visit(t *testing.T, e edge) doctor.Config {
	t.Helper()
	c := *connector.Default()
	c.StateDir, c.Ingress, c.Loopback = filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "ingress.yaml"), ""
	if err := c.Proxy.UnmarshalText([]byte("none")); err != nil {
		t.Fatal(err)
	}
	return doctor.Config{Connector: c, Edge: e.url, CAPin: e.pin, Limit: 2 * time.Second}
}

// expect runs the doctor and compares one check with what it must say; want is words of its line, todo of its advice.
func expect(t *testing.T, cfg doctor.Config, name string, state doctor.State, want string, todo ...string) doctor.Report {
	t.Helper()
	report := doctor.Run(t.Context(), cfg)
	i := slices.IndexFunc(report.Checks, func(c doctor.Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %s in %+v", name, report.Checks)
	}
	c := report.Checks[i]
	if c.State != state || !strings.Contains(c.Detail, want) {
		t.Errorf("%s: %s: %s; want %s: …%s…", name, c.State, c.Detail, state, want)
	}
	advice := strings.Join(c.Advice, "\n")
	for _, words := range todo {
		if !strings.Contains(advice, words) {
			t.Errorf("%s: the advice lacks %q: %s", name, words, advice)
		}
	}
	if report.Well != !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool { return c.State == doctor.Problem }) {
		t.Errorf("well = %t with %+v", report.Well, report.Checks)
	}
	return report
}

func TestAllIsWellBeforeEnrolment(t *testing.T) {
	report := doctor.Run(t.Context(), visit(t, startEdge(t, edgeOptions{})))
	var out bytes.Buffer
	if err := report.Write(&out); err != nil {
		t.Fatal(err)
	}
	if !report.Well || !strings.Contains(out.String(), "All is well.") {
		t.Errorf("%s", out.String())
	}
	for _, name := range []string{doctor.CheckDisk, doctor.CheckName, doctor.CheckProxy, doctor.CheckTCP, doctor.CheckUDP, doctor.CheckClock, doctor.CheckCertificate} {
		if !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool { return c.Name == name && c.State == doctor.OK }) {
			t.Errorf("%s is not ok:\n%s", name, out.String())
		}
	}
}

func TestNameThatDoesNotResolve(t *testing.T) {
	cfg := visit(t, edge{url: "https://edge.invalid"})
	expect(t, cfg, doctor.CheckName, doctor.Problem, "edge.invalid is not found", "name server")
	expect(t, cfg, doctor.CheckTCP, doctor.NotChecked, "because")
	expect(t, cfg, doctor.CheckCertificate, doctor.NotChecked, "because")
}

func TestClosedPort(t *testing.T) {
	tcp, _ := listen(t)
	e := edge{url: fmt.Sprintf("https://%s:%d", host, tcp.Addr().(*net.TCPAddr).Port)}
	_ = tcp.Close()
	cfg := visit(t, e)
	cfg.Limit = 300 * time.Millisecond
	expect(t, cfg, doctor.CheckTCP, doctor.Problem, "refused", "firewall", "whether the edge runs")
	expect(t, cfg, doctor.CheckUDP, doctor.Problem, "gets no answer from edge.localhost either", "Open UDP")
}

func TestUDPBlocked(t *testing.T) {
	cfg := visit(t, startEdge(t, edgeOptions{noUDP: true}))
	cfg.Limit = 500 * time.Millisecond
	expect(t, cfg, doctor.CheckUDP, doctor.Problem, "it works over WebSocket", "Open UDP", "outbound to edge.localhost", "for speed")
	cfg.Connector.Transport = connector.TransportQUIC
	expect(t, cfg, doctor.CheckUDP, doctor.Problem, "QUIC only", "transport: auto")
	cfg.Connector.Transport = connector.TransportWebSocket
	if report := expect(t, cfg, doctor.CheckUDP, doctor.NotChecked, "WebSocket only"); !report.Well {
		t.Errorf("a clinic that wants no UDP is told of problems: %+v", report)
	}
}

func TestProxyProblems(t *testing.T) {
	e := startEdge(t, edgeOptions{noUDP: true})
	answer := http.StatusProxyAuthRequired
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="clinic"`)
		w.WriteHeader(answer)
	}))
	t.Cleanup(proxy.Close)
	cfg := visit(t, e)
	cfg.Connector.Transport = connector.TransportWebSocket
	cfg.Connector.Proxy = via(t, "http://clinic:s3cret@"+proxy.Listener.Addr().String())
	report := expect(t, cfg, doctor.CheckProxy, doctor.Problem, "does not accept the user name and password", "proxy_password_file")
	if text := fmt.Sprint(report); strings.Contains(text, "s3cret") {
		t.Errorf("the password is told: %s", text)
	}
	expect(t, cfg, doctor.CheckTCP, doctor.NotChecked, "the proxy does not connect")
	answer = http.StatusForbidden
	expect(t, cfg, doctor.CheckProxy, doctor.Problem, "does not allow", "allow CONNECT to edge.localhost")
	answer = http.StatusBadGateway
	expect(t, cfg, doctor.CheckProxy, doctor.OK, "answers")
	expect(t, cfg, doctor.CheckTCP, doctor.Problem, "could not connect", "The proxy is well")
	proxy.Close()
	expect(t, cfg, doctor.CheckProxy, doctor.Problem, "cannot be reached", "proxy: none")
}

func via(t *testing.T, address string) (a egress.Address) {
	t.Helper()
	if err := a.UnmarshalText([]byte(address)); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCertificateProblems(t *testing.T) {
	day := 24 * time.Hour
	t.Run("a firewall's", func(t *testing.T) {
		e := startEdge(t, edgeOptions{issuer: "Fortress Inspection CA"})
		pinned := visit(t, e)
		pinned.CAPin = startEdge(t, edgeOptions{}).pin
		expect(t, pinned, doctor.CheckCertificate, doctor.Problem, "Fortress Inspection CA", "edge.localhost exempted", "tls_inspection: true", "new invitation")
		system := visit(t, e)
		system.CAPin = ""
		expect(t, system, doctor.CheckCertificate, doctor.Problem, "Fortress Inspection CA", "edge.localhost exempted", "tls_inspection: true", "ca_file")
	})
	t.Run("expired", func(t *testing.T) {
		e := startEdge(t, edgeOptions{from: time.Now().Add(-9 * day), to: time.Now().Add(-day)})
		expect(t, visit(t, e), doctor.CheckCertificate, doctor.Problem, "expired on", "renew")
		expect(t, visit(t, e), doctor.CheckClock, doctor.OK, "within")
	})
	t.Run("another name", func(t *testing.T) {
		e := startEdge(t, edgeOptions{name: "other.example"})
		expect(t, visit(t, e), doctor.CheckCertificate, doctor.Problem, "other.example", "Compare the edge's name")
	})
	t.Run("an edge that was renamed", func(t *testing.T) {
		e := startEdge(t, edgeOptions{stranger: true})
		expect(t, visit(t, e), doctor.CheckCertificate, doctor.Problem, "no certificate for edge.localhost", "has another name now", "enrol anew")
		expect(t, visit(t, e), doctor.CheckUDP, doctor.Problem, "no certificate for this name")
	})
	t.Run("no TLS at all", func(t *testing.T) {
		plain := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(plain.Close)
		cfg := visit(t, edge{url: fmt.Sprintf("https://%s:%d", host, plain.Listener.Addr().(*net.TCPAddr).Port)})
		cfg.Connector.Transport = connector.TransportWebSocket
		expect(t, cfg, doctor.CheckCertificate, doctor.Problem, "TLS does not", "filters by name")
	})
}

// A clock that is wrong makes a good certificate look bad; whoever reads that must not ask for a new one.
func TestClockProblems(t *testing.T) {
	e := startEdge(t, edgeOptions{})
	cfg := visit(t, e)
	cfg.Now = func() time.Time { return time.Now().Add(-3 * time.Minute) }
	expect(t, cfg, doctor.CheckClock, doctor.Problem, "behind", "timedatectl")
	expect(t, cfg, doctor.CheckCertificate, doctor.OK, "trusted")
	cfg.Now = func() time.Time { return time.Now().Add(90 * 24 * time.Hour) }
	expect(t, cfg, doctor.CheckClock, doctor.Problem, "ahead", "timedatectl")
	expect(t, cfg, doctor.CheckCertificate, doctor.Problem, "by the edge's clock it is good", "set this machine's clock")
	cfg.Now = func() time.Time { return time.Now().Add(-90 * 24 * time.Hour) }
	expect(t, cfg, doctor.CheckCertificate, doctor.Problem, "is not valid before", "set this machine's clock")
	cfg.Now = func() time.Time { return time.Now().Add(-time.Minute) }
	expect(t, cfg, doctor.CheckClock, doctor.OK, "within")
}

func TestDiskNearlyFull(t *testing.T) {
	cfg := visit(t, startEdge(t, edgeOptions{}))
	cfg.Free = func(string) (uint64, error) { return 7 << 20, nil }
	expect(t, cfg, doctor.CheckDisk, doctor.Problem, "only 7 MiB", "Make room")
}

// Every check ends in time against a peer that accepts and then says nothing.
func TestSilentPeerIsBounded(t *testing.T) {
	tcp, _ := listen(t)
	cfg := visit(t, edge{url: fmt.Sprintf("https://%s:%d", host, tcp.Addr().(*net.TCPAddr).Port)})
	cfg.Limit = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	report := doctor.Run(ctx, cfg)
	if report.Well || ctx.Err() != nil {
		t.Errorf("%+v", report)
	}
}
