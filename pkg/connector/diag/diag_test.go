package diag_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/connector/diag"
	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
)

const (
	password = "Pr0xyP4ssword"
	code     = "ABCDEFGHIJKLMNOPQRSTUVWX27"
	patient  = "4821177"
)

// enrolled is a machine with a key, a proxy with a password, and a running connector that answers for itself.
func enrolled(t *testing.T) (cfg diag.Config, key ed25519.PrivateKey) {
	t.Helper()
	dir := t.TempDir()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(connector.Identity{Connector: "con_1", Tenant: "maple", Site: "main", Edge: "https://edge.localhost:1", RootKey: public})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"identity.json": text, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "password": []byte(password + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			_, _ = io.WriteString(w, "sallyport_exchange_moved_total{direction=\"upload\",lane=\"bulk\"} 7\n")
			return
		}
		_ = json.NewEncoder(w).Encode(connector.Status{
			Status: connector.StatusReady, ReadyConnections: 2, ConnectorID: "con_1", Protocol: "websocket",
			Links: []connector.LinkStatus{{Edge: "https://edge.localhost:1", Lane: "fast", Transport: "websocket", Up: true, RoundTripMS: 12, Generation: 5}},
			Lanes: map[string]string{
				"fast": "UDP does not reach the edge: exchanges run over WebSocket",
				"bulk": "no link: dial through http://clinic:" + password + "@proxy.example:3128: refused",
			},
		})
	}))
	t.Cleanup(running.Close)
	c := *connector.Default()
	c.StateDir, c.Ingress, c.Loopback = dir, filepath.Join(dir, "ingress.yaml"), running.Listener.Addr().String()
	c.Transport, c.ProxyPasswordFile = connector.TransportWebSocket, filepath.Join(dir, "password")
	if err := c.Proxy.UnmarshalText([]byte("http://clinic@127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	cfg = diag.Config{
		Doctor: doctor.Config{Connector: c, Limit: time.Second}, Settings: "proxy: " + c.Proxy.String() + " # default\n",
		Journal: func(context.Context) ([]byte, error) { return nil, fs.ErrNotExist },
	}
	return cfg, key
}

// unpack saves the bundle and reads it again, file by file.
func unpack(t *testing.T, b *diag.Bundle) map[string]string {
	t.Helper()
	name := filepath.Join(t.TempDir(), b.DefaultName())
	if err := b.Save(name); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	packed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "sallyport-diag/")] = string(text)
	}
}

func TestBundleTellsWhatSupportNeeds(t *testing.T) {
	cfg, _ := enrolled(t)
	files := unpack(t, diag.Gather(t.Context(), cfg))
	for name, want := range map[string]string{
		"README.txt": "support bundle", "doctor.txt": "What to do:", "doctor.json": `"name": "proxy"`, "configuration.txt": "proxy:",
		"identity.json": `"connector": "con_1"`, "ready.json": `"readyConnections": 2`, "metrics.txt": "sallyport_exchange_moved_total",
		"journal.txt": "no journal", "network.txt": "lo: MTU", "system.txt": "tcp_available_congestion_control",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files[name])
		}
	}
	for _, want := range []string{
		"fast lane", "websocket to https://edge.localhost:1: up, round trip 12.0 ms, generation 5", "why: UDP does not reach the edge",
		"bulk lane", "why: no link", "7 moved (direction=upload,lane=bulk)",
	} {
		if !strings.Contains(files["lanes.txt"], want) {
			t.Errorf("lanes.txt lacks %q:\n%s", want, files["lanes.txt"])
		}
	}
}

func TestLanesAsMeantAndUnknown(t *testing.T) {
	got := diag.Lanes(&connector.Status{Links: []connector.LinkStatus{
		{Lane: "fast", Transport: "quic", Up: true}, {Lane: "bulk", Transport: "websocket"},
	}}, "")
	for _, want := range []string{"QUIC gets through", "large bodies go over TCP", "no round trip in the last 10 s"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if got := diag.Lanes(nil, ""); !strings.Contains(got, "No connector answers") {
		t.Error(got)
	}
}

// What must not leave the building does not, even where a log has it against the rules.
func TestBundleHoldsNoSecrets(t *testing.T) {
	cfg, key := enrolled(t)
	cfg.Journal = func(context.Context) ([]byte, error) {
		return fmt.Appendf(nil, `2026-11-27T07:00:00 clinic connector[7]: {"msg":"exchange failed","error":"GET https://127.0.0.1:8443/oscar/patient/%[1]s/chart: EOF"}
2026-11-27T07:00:01 clinic connector[7]: {"target":"/oscar/demographic/%[1]s","query":"?demographic_no=%[1]s&x=1"}
2026-11-27T07:00:02 clinic connector[7]: connector enroll https://edge.example --code %[2]s --ca sha256:x
2026-11-27T07:00:03 clinic connector[7]: dial http://clinic:%[3]s@proxy.example:3128 refused; demographicNo=%[1]s
2026-11-27T07:00:04 clinic connector[7]: {"msg":"connector starts","edge":"https://edge.example","file":"/etc/sallyport/ingress.yaml","site":"maple/main"}
`, patient, code, password), nil
	}
	files := unpack(t, diag.Gather(t.Context(), cfg))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		for what, secret := range map[string]string{
			"the key": string(key.Seed()), "the key's PEM": base64.StdEncoding.EncodeToString(der), "the code": code, "the password": password, "the patient": patient,
		} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s:\n%s", name, what, text)
			}
		}
	}
	for _, want := range []string{`"connector starts","edge":"https://edge.example"`, "/etc/sallyport/ingress.yaml", "maple/main", "https://127.0.0.1:8443/[removed]"} {
		if !strings.Contains(files["journal.txt"], want) {
			t.Errorf("the journal lost %q:\n%s", want, files["journal.txt"])
		}
	}
}

func TestBundleOverwritesNothing(t *testing.T) {
	cfg, _ := enrolled(t)
	name := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := diag.Gather(t.Context(), cfg).Save(name); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "mine" {
		t.Errorf("%q %v", text, err)
	}
}
