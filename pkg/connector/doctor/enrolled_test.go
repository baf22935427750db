package doctor_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
)

const own = "con_1"

// enrol leaves in the state directory what enrolment does.
func enrol(t *testing.T, cfg *doctor.Config) (key ed25519.PrivateKey) {
	t.Helper()
	dir := cfg.Connector.StateDir
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(connector.Identity{Connector: own, Tenant: "maple", Site: "main", Edge: cfg.Edge, CAPin: cfg.CAPin, RootKey: public})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "identity.json"), string(text))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	cfg.Edge, cfg.CAPin = "", ""
	cfg.Unit = func(context.Context) (doctor.UnitState, error) { return doctor.UnitState{}, errors.New("no systemd") }
	return key
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// running answers /ready as a connector would with this status.
func running(t *testing.T, cfg *doctor.Config, s connector.Status) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.Status != connector.StatusReady {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(s)
	}))
	t.Cleanup(server.Close)
	cfg.Connector.Loopback = server.Listener.Addr().String()
}

func enrolled(t *testing.T) *doctor.Config {
	t.Helper()
	cfg := visit(t, startEdge(t, edgeOptions{}))
	enrol(t, &cfg)
	return &cfg
}

func TestEnrolmentMissingOrUnusable(t *testing.T) {
	cfg := visit(t, edge{})
	expect(t, cfg, doctor.CheckEnrolment, doctor.Problem, "not enrolled", "connector enroll", "--edge")
	expect(t, cfg, doctor.CheckTCP, doctor.NotChecked, "because")

	damaged := enrolled(t)
	write(t, filepath.Join(damaged.Connector.StateDir, "identity.json"), "{")
	expect(t, *damaged, doctor.CheckEnrolment, doctor.Problem, "identity.json", "enrol anew")

	open := enrolled(t)
	if err := os.Chmod(filepath.Join(open.Connector.StateDir, "key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, *open, doctor.CheckEnrolment, doctor.Problem, "lets others at it", "said there")
	shared := enrolled(t)
	if err := os.Chmod(shared.Connector.StateDir, 0o777); err != nil { //nolint:gosec // that is the fault
		t.Fatal(err)
	}
	expect(t, *shared, doctor.CheckEnrolment, doctor.Problem, "others may write", "chmod 700")
}

func TestLinkAsTheRunningConnectorTellsIt(t *testing.T) {
	cfg := enrolled(t)
	running(t, cfg, connector.Status{Status: connector.StatusReady, ReadyConnections: 2, ConnectorID: own, Protocol: "quic", RoundTripMS: 12})
	expect(t, *cfg, doctor.CheckEnrolment, doctor.OK, own)
	expect(t, *cfg, doctor.CheckLink, doctor.OK, "up over quic")

	for why, want := range map[string][]string{
		"no link: the edge refused the link: revoked: this connector's enrolment was revoked; enrol it again": {"has revoked", "new invitation"},
		"no link: the edge refused the link: refused: this connector is frozen; ask the operator":             {"frozen", "no copy of this machine"},
		"no link: the peer is not the edge that this connector enrolled with":                                 {"not the edge", "opens TLS"},
		"no link: the edge refused the link: refused: this edge does not know you":                            {"does not believe", "tls_inspection: true"},
		"no link: dial 192.0.2.1:443: i/o timeout":                                                            {"i/o timeout", "checks above"},
	} {
		running(t, cfg, connector.Status{Status: connector.StatusNoLink, ConnectorID: own, Lanes: map[string]string{"fast": why}})
		expect(t, *cfg, doctor.CheckLink, doctor.Problem, want[0], want[1])
	}
	running(t, cfg, connector.Status{Status: connector.StatusReady, ReadyConnections: 2, ConnectorID: "con_2", Protocol: "quic"})
	expect(t, *cfg, doctor.CheckLink, doctor.Problem, "another one", "restart")
}

func TestNothingRuns(t *testing.T) {
	cfg := enrolled(t)
	cfg.Connector.Loopback = "127.0.0.1:1"
	expect(t, *cfg, doctor.CheckLink, doctor.Problem, "not running", "service install")
	for want, unit := range map[string]doctor.UnitState{
		"has revoked":            {Known: true, Active: "inactive", ExitCode: "3"},
		"the service is failed":  {Known: true, Active: "failed", ExitCode: "1"},
		"although the service r": {Known: true, Active: "active", ExitCode: "0"},
	} {
		cfg.Unit = func(context.Context) (doctor.UnitState, error) { return unit, nil }
		expect(t, *cfg, doctor.CheckLink, doctor.Problem, want)
	}
}

func TestOrigins(t *testing.T) {
	cfg := visit(t, startEdge(t, edgeOptions{}))
	rule := func(origin, more string) {
		write(t, cfg.Connector.Ingress, fmt.Sprintf("rules:\n  - host: oscar.maple.localhost\n    origin: %s\n%s  - status: 404\n", origin, more))
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	rule(plain.URL, "")
	expect(t, cfg, doctor.CheckOrigin, doctor.OK, "answers (status 404")

	secured := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secured.Close)
	rule(secured.URL, "    tls: {pin_sha256: \"sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n")
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "another certificate", "connector ingress pin")
	rule(secured.URL, "")
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "not trusted", "pin_sha256")

	tcp, _ := listen(t) // accepts and keeps silent
	rule("http://"+tcp.Addr().String(), "")
	cfg.Limit = 300 * time.Millisecond
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "does not answer", "restart")
	_ = tcp.Close()
	rule("http://"+tcp.Addr().String(), "")
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "takes no connection", "Start the server")

	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(broken.Close)
	rule(broken.URL, "")
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "status 503", "own log")

	write(t, cfg.Connector.Ingress, "rules: nonsense\n")
	expect(t, cfg, doctor.CheckOrigin, doctor.Problem, "ingress.yaml", "ingress validate")
}

func TestNoRules(t *testing.T) {
	cfg := enrolled(t)
	expect(t, *cfg, doctor.CheckOrigin, doctor.Problem, "no ingress rules", "where OSCAR is")
}
