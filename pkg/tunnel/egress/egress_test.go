package egress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/porttest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// start runs a real proxy until the test ends and waits until it answers at address.
func start(t *testing.T, address, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (scripts/install.sh test installs it)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	limit, tick := time.NewTimer(20*time.Second), time.NewTicker(50*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", program, err, &said)
		case <-limit.C:
			t.Fatalf("%s does not answer", program)
		case <-tick.C:
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
}

// squid runs one that wants clinic/secret and allows CONNECT to every port but 1.
func squid(t *testing.T) string {
	address, dir := freePort(t), open(t)
	hash, err := exec.Command("openssl", "passwd", "-apr1", "s3cret pass").Output()
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`http_port %s
pid_filename none
cache_log /dev/null
access_log none
cache deny all
coredump_dir %[2]s
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[2]s/passwd
auth_param basic children 1
acl known proxy_auth REQUIRED
acl forbidden port 1
http_access deny forbidden
http_access allow known
http_access deny all
shutdown_lifetime 0 seconds
`, address, dir)
	write(t, filepath.Join(dir, "passwd"), "clinic:"+string(hash))
	write(t, filepath.Join(dir, "squid.conf"), conf)
	start(t, address, "/usr/sbin/squid", "-N", "-f", filepath.Join(dir, "squid.conf"))
	return address
}

// open is a directory that a proxy which gave up root can read.
func open(t *testing.T) string {
	dir, err := os.MkdirTemp("", "sallyport-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func way(t *testing.T, proxy string, env map[string]string) *egress.Egress {
	t.Helper()
	var a egress.Address
	if err := a.UnmarshalText([]byte(proxy)); err != nil {
		t.Fatal(err)
	}
	e, err := egress.New(egress.Config{Proxy: a, Getenv: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// carries opens a WebSocket link through e and sends bytes over it.
func carries(t *testing.T, e *egress.Egress) {
	t.Helper()
	server, client := linktest.TLS(t)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := serveLinks(t, tcp, server)
	target := tunnel.Target{
		Address: tcp.Addr().String(), ServerName: linktest.ServerName, TLS: client,
		Proxy: func(address string) (func(context.Context, string, string) (net.Conn, error), error) {
			u, err := e.For(address)
			if err != nil || u == nil {
				t.Errorf("%v, %v: no proxy for the edge", u, err)
			}
			return func(ctx context.Context, _, address string) (net.Conn, error) { return e.Through(ctx, u, address) }, err
		},
	}
	link, err := (&wslink.Dialer{}).Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye}) }()
	far := <-accepted
	s, err := link.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := strings.Repeat("sallyport ", 1000)
	if _, err = io.WriteString(s, sent); err == nil {
		err = s.CloseWrite()
	}
	in, errAccept := far.Accept(t.Context())
	if err = errors.Join(err, errAccept); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); err != nil || string(got) != sent {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestLinkThroughSquid(t *testing.T) {
	address := squid(t)
	t.Run("user and password", func(t *testing.T) { carries(t, way(t, "http://clinic:s3cret%20pass@"+address, nil)) })
	for name, c := range map[string]struct {
		proxy, target string
		want          egress.Kind
		words         string
	}{
		"no credentials":    {"http://" + address, "edge.example:443", egress.Credentials, "wants a user name and password (status 407)"},
		"wrong credentials": {"http://clinic:wrong@" + address, "edge.example:443", egress.Credentials, "does not accept"},
		"forbidden":         {"http://clinic:s3cret%20pass@" + address, "127.0.0.1:1", egress.Denied, "does not allow"},
		"nothing there":     {"http://clinic:s3cret%20pass@" + address, freePort(t), egress.Upstream, "could not connect"},
		"not there itself":  {"http://" + freePort(t), "edge.example:443", egress.Unreachable, "cannot be reached"},
		"not SOCKS":         {"socks5://" + address, "edge.example:443", egress.Protocol, "does not answer as a SOCKS5 proxy"},
	} {
		t.Run(name, func(t *testing.T) { refuses(t, way(t, c.proxy, nil), c.target, c.want, c.words) })
	}
}

func refuses(t *testing.T, e *egress.Egress, target string, want egress.Kind, words string) {
	t.Helper()
	_, err := e.Connect(t.Context(), "tcp", target)
	var at *egress.Error
	if !errors.As(err, &at) || at.Kind != want || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want %s: %q", err, want, words)
	}
	if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wrong")) {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestLinkThroughDante(t *testing.T) {
	address, dir := freePort(t), open(t)
	_, port, _ := net.SplitHostPort(address)
	write(t, filepath.Join(dir, "danted.conf"), `logoutput: /dev/null
internal: 127.0.0.1 port = `+port+`
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 port = 1 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
`)
	start(t, address, "/usr/sbin/danted", "-f", filepath.Join(dir, "danted.conf"), "-p", filepath.Join(dir, "pid"))
	t.Run("link", func(t *testing.T) { carries(t, way(t, "socks5://"+address, nil)) })
	t.Run("forbidden", func(t *testing.T) {
		refuses(t, way(t, "socks5h://"+address, nil), "127.0.0.1:1", egress.Denied, "does not allow")
	})
	t.Run("nothing there", func(t *testing.T) {
		refuses(t, way(t, "socks5://"+address, nil), freePort(t), egress.Upstream, "could not connect")
	})
	t.Run("not HTTP", func(t *testing.T) {
		refuses(t, way(t, "http://"+address, nil), "edge.example:443", egress.Protocol, "does not answer as an HTTP proxy")
	})
}
