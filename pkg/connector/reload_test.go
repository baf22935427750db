package connector_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/connector"
)

// gateway is an HTTP proxy that carries CONNECT for whoever knows the password.
type gateway struct {
	net.Listener
	password string
	carried  atomic.Int64 // connections that it carries now
}

func newGateway(t *testing.T, password string) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Listener: l, password: password}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return g
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("clinic:"+g.password)); r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	_, port, _ := net.SplitHostPort(r.Host)
	far, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	g.carried.Add(1)
	defer g.carried.Add(-1)
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(ends[0], ends[1])
			_ = ends[0].Close()
			_ = ends[1].Close()
		})
	}
	both.Wait()
}

// configured is a clinic whose connector was started with a configuration file, as the installed service is.
type configured struct {
	*clinic
	file, password string
	base           string
}

func fromFile(t *testing.T, e *testEdge, keys string) *configured {
	t.Helper()
	dir := t.TempDir()
	f := &configured{file: filepath.Join(dir, "connector.yaml"), password: filepath.Join(dir, "password")}
	f.secret(t, "first")
	load := func() (connector.Config, error) {
		cfg := *connector.Default()
		_, err := conf.Load(&cfg, conf.Options{File: f.file, Env: func(string) (string, bool) { return "", false }})
		return cfg, err
	}
	f.clinic = newClinic(t, e, connector.TransportWebSocket, func(c *connector.Config) {
		f.base = fmt.Sprintf("state_dir: %s\ningress: %s\nloopback: 127.0.0.1:0\ntransport: websocket\n", c.StateDir, c.Ingress)
		f.write(t, keys)
		cfg, err := load()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Network = c.Network
		*c = cfg
	})
	f.Follow(connector.Source{Load: load})
	return f
}

func (f *configured) write(t *testing.T, keys string) {
	t.Helper()
	if err := os.WriteFile(f.file, []byte(f.base+keys), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *configured) secret(t *testing.T, word string) {
	t.Helper()
	if err := os.WriteFile(f.password, []byte(word+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// proxy is the configuration that names a gateway.
func (f *configured) proxy(g net.Addr) string {
	return fmt.Sprintf("proxy: http://clinic@%s\nproxy_password_file: %s\n", g, f.password)
}

// says waits until /ready says this of the configuration and of the lanes.
func (f *configured) says(t *testing.T, what, config, lanes string) {
	t.Helper()
	eventually(t, what, func() bool {
		s, _ := f.get(t)
		said := fmt.Sprint(s.Lanes)
		return strings.HasPrefix(s.Config, config) && (config != "" || s.Config == "") && strings.Contains(said, lanes) &&
			(lanes != "" || !strings.Contains(said, "no link"))
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// The clinic changes its proxy, or the proxy's password: links go the new way, nobody restarts the connector, and what runs goes
// on. A way that leads nowhere, or a file with a fault, takes no link away.
func TestLinksTakeTheWayThatTheConfigurationSaysNow(t *testing.T) {
	e := newEdge(t)
	first, second := newGateway(t, "first"), newGateway(t, "second")
	f := fromFile(t, e, "")
	f.ready(t)
	running := slow(t, e, e.member(t), "ses_1")

	f.write(t, f.proxy(first.Addr()))
	f.Reload()
	eventually(t, "both lanes through the proxy", func() bool { return first.carried.Load() == 2 })
	f.says(t, "a configuration in force", "", "")
	e.answers(t)

	f.write(t, f.proxy(second.Addr())+"colour: red\n")
	f.Reload()
	f.says(t, "a fault", "rejected: ", "")
	f.write(t, f.proxy(second.Addr())) // which wants another password
	f.Reload()
	f.says(t, "a proxy that refuses", "", "those of before are kept")
	if first.carried.Load() != 2 || second.carried.Load() != 0 {
		t.Errorf("%d links by the way of before", first.carried.Load())
	}
	e.answers(t)
	f.secret(t, "second")
	f.Reload()
	f.Hasten()
	eventually(t, "both lanes through the other proxy", func() bool { return second.carried.Load() == 2 })
	e.answers(t)

	f.write(t, f.proxy(second.Addr())+"loopback: \"\"\nlog: {level: debug}\n")
	f.Reload()
	f.says(t, "a fault", "rejected: ", "") // loopback stands there twice
	f.write(t, f.proxy(second.Addr())+"ingress_from: edge\n")
	f.Reload()
	f.says(t, "what waits", "needs connector restart: ingress_from", "")
	f.write(t, "")
	f.Reload()
	eventually(t, "no link through a proxy", func() bool { return first.carried.Load()+second.carried.Load() == 0 })
	f.says(t, "a configuration in force", "", "")
	close(f.origin.hold)
	if text, err := io.ReadAll(running.Body); err != nil || string(text) != "chart of /slow" {
		t.Errorf("what ran all the time: %q %v", text, err)
	}
}
