package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// prepared is a configuration whose state directory is ready.
func prepared(t *testing.T) Config {
	t.Helper()
	c := Default()
	c.StateDir, c.Host, c.Listen, c.Loopback = filepath.Join(t.TempDir(), "state"), "edge.example", "127.0.0.1:0", "127.0.0.1:0"
	if _, err := Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// running is an edge that serves until the test ends, and ends cleanly then.
func running(t testing.TB, c Config) *Edge {
	t.Helper()
	e, err := New(t.Context(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	serving(t, e)
	return e
}

// serving runs an edge until the test ends, or it is stopped.
func serving(t testing.TB, e *Edge) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the edge ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the edge does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// handshake opens TLS to the edge for a host and returns the certificate that it shows.
func handshake(t *testing.T, e *Edge, host string) (*x509.Certificate, error) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} // which certificate comes is what is asked
	conn, err := dialer.DialContext(t.Context(), "tcp", e.Addr().String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func TestOnlyItsOwnNamesGetACertificate(t *testing.T) {
	e := running(t, prepared(t))
	if _, err := handshake(t, e, "edge.example"); err != nil {
		t.Errorf("the edge's own name: %v", err)
	}
	for _, stranger := range []string{"oscar.example", ""} {
		if _, err := handshake(t, e, stranger); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%q: %v", stranger, err)
		}
	}
}

func TestAClinicIsServedAsSoonAsItIsThere(t *testing.T) {
	c := prepared(t)
	e := running(t, c)
	api := adminapi.Dial(c.Socket())
	eventually(t, "the admin socket", func() bool {
		_, err := api.CreateTenant(t.Context(), &adminv1.CreateTenantRequest{Id: "maple"})
		return err == nil
	})
	eventually(t, "the sign-in host", func() bool {
		_, err := handshake(t, e, "signin.maple.example")
		return err == nil
	})
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: "signin.maple.example", InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.Addr().String())
		},
	}}
	defer client.CloseIdleConnections()
	for host, want := range map[string]int{"signin.maple.example": http.StatusOK, "edge.example": http.StatusMisdirectedRequest, "oscar.example": http.StatusMisdirectedRequest} {
		resp, err := client.Get("https://" + host + "/")
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("SNI signin.maple.example, Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

func TestReadyTellsWhetherRequestsCanBeJudged(t *testing.T) {
	c := prepared(t)
	e, err := New(t.Context(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	following, stop := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- e.follower.Run(following) }()
	t.Cleanup(func() { stop(); <-followed })
	if status, answer := ask(t, e); status != http.StatusOK || answer != (readiness{Status: "ready", Hosts: 1}) {
		t.Errorf("%d %+v", status, answer)
	}
	if err := e.store.Close(); err != nil {
		t.Fatal(err)
	}
	if status, answer := ask(t, e); status != http.StatusServiceUnavailable || answer.Reason != "the store does not answer" {
		t.Errorf("without its store: %d %+v", status, answer)
	}
	if got, want := e.status(), "0 links, 1 hosts, 0 requests under way"; got != want {
		t.Errorf("status line %q", got)
	}
}

// ask asks /ready.
func ask(t *testing.T, e *Edge) (int, readiness) {
	t.Helper()
	w := record(e.loopbackHandler(), "/ready")
	var answer readiness
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return w.Code, answer
}

func TestLoopbackServesMetricsAndNothingElse(t *testing.T) {
	e, err := New(t.Context(), prepared(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if w := record(e.loopbackHandler(), "/metrics"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "go_goroutines") {
		t.Errorf("/metrics: %d %.200s", w.Code, w.Body)
	}
	if w := record(e.loopbackHandler(), "/"); w.Code != http.StatusNotFound {
		t.Errorf("/: %d", w.Code)
	}
}

func TestAnEdgeThatIsNotPreparedSaysSo(t *testing.T) {
	c := Default()
	c.StateDir, c.Listen = t.TempDir(), "127.0.0.1:0"
	if _, err := New(t.Context(), c, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "run `edge init`") {
		t.Errorf("%v", err)
	}
	c = prepared(t)
	if err := os.Remove(c.masterKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), c, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "restore it from the back-up") {
		t.Errorf("without master.key: %v", err)
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	c := prepared(t)
	read := func() (files []string) {
		for _, name := range []string{c.masterKey(), filepath.Join(c.localCA(), "ca.pem")} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, string(text))
		}
		return files
	}
	before := strings.Join(read(), "")
	made, err := Init(t.Context(), c)
	if err != nil || len(made) != 1 || !strings.HasSuffix(made[0], "is prepared already") {
		t.Errorf("%v, %v", made, err)
	}
	if strings.Join(read(), "") != before {
		t.Error("a second init changed a key")
	}
	if info, err := os.Stat(c.StateDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory: %v, %v", info.Mode(), err)
	}
}

// A master.key that is not the store's must not be taken by init for a fresh start.
func TestInitRefusesAnotherMasterKey(t *testing.T) {
	c := prepared(t)
	if err := os.Remove(c.masterKey()); err != nil {
		t.Fatal(err)
	}
	if made, err := Init(t.Context(), c); err == nil {
		t.Errorf("a store that is sealed under another key was taken: %v", made)
	} else if _, err := os.Stat(c.masterKey()); err == nil {
		t.Error("a new master.key lies beside a store that it cannot open")
	}
}
