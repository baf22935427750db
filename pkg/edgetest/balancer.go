package edgetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/porttest"
)

// BalancerSource is the address that a Balancer comes from.
const BalancerSource = "127.0.0.9"

// Backend is an edge behind a Balancer.
type Backend struct {
	// Address takes TLS; Health is the edge's key of that name.
	Address, Health string
}

// BehindBalancer is what an edge's configuration says of a Balancer that asks for health at an address.
func BehindBalancer(health string, announce time.Duration) string {
	return fmt.Sprintf("health: %s\nproxy_protocol: {trusted: [%s]}\n", health, BalancerSource) +
		fmt.Sprintf("drain: {announce: %s, upgraded: 20s}\n", announce)
}

// StartBalancer starts HAProxy as operators have it in front of edges: TCP passed on with a header of the PROXY protocol, version 2, to
// whoever says that it is ready. It is asked every 200 ms, and out after two answers that are not. A
// connection that is refused is tried nowhere else: that none is, is up to drain.announce. The returned port is on 127.0.0.1.
func StartBalancer(t testing.TB, edges ...Backend) (port int) {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy" // which is on the path of root alone
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs HAProxy: apt-get install haproxy")
	}
	port = porttest.Free(t)
	var conf strings.Builder
	fmt.Fprintf(&conf, `global
  nbthread 1
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  retries 0
frontend world
  bind 127.0.0.1:%d
  default_backend edges
backend edges
  balance roundrobin
  source %s
  option httpchk GET /ready
  default-server send-proxy-v2 check inter 200ms fall 2 rise 1
`, port, BalancerSource)
	for i, e := range edges {
		_, health, err := net.SplitHostPort(e.Health)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&conf, "  server edge%d %s port %s\n", i, e.Address, health)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	startProcess(t, "haproxy", program, "-db", "-f", file)
	Eventually(t, "HAProxy to listen", func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	return port
}

// FreeAddress is one on this machine that is free for TCP.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
}
