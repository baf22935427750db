package edgetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TomcatOptions say how the test origin is set up. With the zero value a test gets the instance that its whole test binary
// shares; every other value, or Own, gives it one that it may stop.
type TomcatOptions struct {
	Own           bool     // an instance of its own
	RemoteIPValve bool     // believe X-Forwarded-For and X-Forwarded-Proto, as clinics configure it
	AllAddresses  bool     // listen on all addresses instead of loopback
	Env           []string // further TOMCAT_… settings of scripts/tomcat.sh
}

// Tomcat is a running Tomcat 10 with testdata/oscar at /oscar, and other applications at / and /companion.
type Tomcat struct {
	URL          string // https://127.0.0.1:port
	Address      string // host:port of https
	PlainAddress string // host:port of http
	Certificate  *x509.Certificate
	CertPEM      []byte // of Certificate, which signs itself
	Pin          string // of Certificate's key, as the ingress rules want it

	dir     string
	shared  bool
	env     []string
	process *tomcatProcess
	marks   int
}

// tomcatPatience bounds the start; it takes 3 s on an idle machine.
const tomcatPatience = 90 * time.Second

// sharedTomcat starts the instance that the tests of one binary share; it ends with the binary.
var sharedTomcat = sync.OnceValues(func() (*Tomcat, error) {
	dir, err := sharedDir()
	if err != nil {
		return nil, err
	}
	tc := &Tomcat{dir: dir, shared: true}
	return tc, tc.start()
})

// StartTomcat returns a Tomcat that answers. The test fails where Tomcat cannot run: what it decides is what is tested.
func StartTomcat(t testing.TB, opt TomcatOptions) *Tomcat {
	t.Helper()
	if !opt.Own && !opt.RemoteIPValve && !opt.AllAddresses && len(opt.Env) == 0 {
		tc, err := sharedTomcat()
		if err != nil {
			t.Fatalf("tomcat: %v", err)
		}
		return tc
	}
	tc := &Tomcat{dir: t.TempDir(), env: opt.Env}
	if opt.RemoteIPValve {
		tc.env = append(tc.env, "TOMCAT_REMOTE_IP_VALVE=yes")
	}
	if opt.AllAddresses {
		tc.env = append(tc.env, "TOMCAT_ADDRESS=0.0.0.0")
	}
	if err := tc.start(); err != nil {
		t.Fatalf("tomcat: %v", err)
	}
	t.Cleanup(func() { tc.process.stop() })
	return tc
}

// Stop ends Tomcat in order; Restart brings it back on the same ports with the same certificate.
func (tc *Tomcat) Stop(t testing.TB) {
	t.Helper()
	tc.own(t)
	tc.process.stop()
}

// Kill ends Tomcat at once, as a crash would.
func (tc *Tomcat) Kill(t testing.TB) {
	t.Helper()
	tc.own(t)
	tc.process.kill()
}

// Suspend makes Tomcat hang until Resume: the kernel still takes connections for it, and nothing is answered.
func (tc *Tomcat) Suspend(t testing.TB) {
	t.Helper()
	tc.own(t)
	t.Cleanup(func() { _ = syscall.Kill(tc.process.pid, syscall.SIGCONT) }) // it could not end in order
	if err := syscall.Kill(tc.process.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// Resume lets a suspended Tomcat go on.
func (tc *Tomcat) Resume(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(tc.process.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// Restart starts Tomcat again after Stop or Kill; what it held in memory is gone.
func (tc *Tomcat) Restart(t testing.TB) {
	t.Helper()
	tc.own(t)
	tc.process.stop()
	if err := tc.start(); err != nil {
		t.Fatalf("tomcat: restart: %v", err)
	}
}

func (tc *Tomcat) own(t testing.TB) {
	t.Helper()
	if tc.shared {
		t.Fatal("other tests share this Tomcat: ask for one with TomcatOptions.Own")
	}
}

// AccessLog returns a line for every request of a visitor that reached Tomcat since its directory was made, in the order in which they
// ended: `remote-address status "METHOD target HTTP/1.1"`. A request of its own goes first, so that what ended before the
// call is in the log.
func (tc *Tomcat) AccessLog(t testing.TB) []string {
	t.Helper()
	tc.marks++
	mark := fmt.Sprintf("/oscar/wire/status?code=204&mark=%d-%d", os.Getpid(), tc.marks)
	marked := tc.visit(mark) == nil
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(filepath.Join(tc.dir, "logs", "access.log"))
		if err == nil && (!marked || bytes.Contains(text, []byte(mark))) {
			return withoutMarks(text)
		}
		select {
		case <-deadline:
			t.Fatalf("tomcat: the access log does not show our own request (%v)", err)
		case <-tick.C:
		}
	}
}

// probePath is what the connector of a World asks to see whether the application is there.
const probePath = "/oscar/wire/probe"

// withoutMarks leaves out what no visitor asked for.
func withoutMarks(text []byte) []string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "/oscar/wire/status?code=204&mark=") && !strings.Contains(line, probePath) {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return lines
}

func (tc *Tomcat) visit(target string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+tc.PlainAddress+target, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// start runs scripts/tomcat.sh, on the ports of the last time if there was one, until Tomcat says that it is up.
func (tc *Tomcat) start() error {
	httpsPort, httpPort := portOf(tc.Address), portOf(tc.PlainAddress)
	env := append(os.Environ(), "TOMCAT_DIR="+tc.dir, "TOMCAT_HTTPS_PORT="+httpsPort, "TOMCAT_HTTP_PORT="+httpPort)
	p, err := runTomcat(filepath.Join(repository(), "scripts", "tomcat.sh"), append(env, tc.env...))
	if err != nil {
		return err
	}
	tc.process = p
	select {
	case <-p.up:
	case <-p.ended:
		return fmt.Errorf("ended at its start:\n%s", p.said())
	case <-time.After(tomcatPatience):
		p.kill()
		return fmt.Errorf("not up after %s:\n%s", tomcatPatience, p.said())
	}
	plain, https, err := portsIn(p.said())
	if err != nil {
		p.kill()
		return err
	}
	tc.PlainAddress, tc.Address = "127.0.0.1:"+plain, "127.0.0.1:"+https
	tc.URL = "https://" + tc.Address
	return tc.readCertificate()
}

// portsIn finds the ports in lines such as: Starting ProtocolHandler ["https-jsse-nio-127.0.0.1-auto-2-44079"]. With a given
// port the name ends in "-9443" as well.
func portsIn(log string) (plain, https string, err error) {
	lines := bufio.NewScanner(strings.NewReader(log))
	for lines.Scan() {
		_, name, ok := strings.Cut(lines.Text(), `Starting ProtocolHandler ["`)
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, `"]`)
		port := name[strings.LastIndexByte(name, '-')+1:]
		if strings.HasPrefix(name, "https-") {
			https = port
		} else {
			plain = port
		}
	}
	for _, port := range []string{plain, https} {
		if _, err := strconv.Atoi(port); err != nil {
			return "", "", fmt.Errorf("no ports in what Tomcat said:\n%s", log)
		}
	}
	return plain, https, nil
}

func portOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[i+1:]
	}
	return "0"
}

func (tc *Tomcat) readCertificate() error {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // it signs itself; this is where its key is learnt
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", tc.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	tc.Certificate = conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	tc.CertPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tc.Certificate.Raw})
	sum := sha256.Sum256(tc.Certificate.RawSubjectPublicKeyInfo)
	tc.Pin = "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
	return nil
}

// repository is where this source tree lies.
func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
