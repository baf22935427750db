// Package edgetest owns what the tests of the whole need: the real programs as processes with one clinic set up, a visitor
// who signs in, a Tomcat with an OSCAR-like application, a stand-in for it where Tomcat's own parsing does not matter, and a
// mail server with an inbox. Programs that ship do not import it.
package edgetest

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/porttest"
)

// The one clinic that every World has.
const (
	AppHost = "oscar.maple.localhost"
	Doctor  = "dr.lee@maple.example"
	edgeOwn = "edge.localhost"
)

// Doctors are the people who may use the app. Codes are throttled for each, so that a test that signs in often takes turns.
func Doctors() []string {
	return []string{Doctor, "dr.roy@maple.example", "dr.wu@maple.example", "dr.abu@maple.example", "dr.kim@maple.example", "dr.day@maple.example"}
}

// Options says what a World is made of.
type Options struct {
	// Origin is the URL of the clinic's server; Pin its key's, where it speaks https with a certificate of its own.
	Origin, Pin string
	// NoQUIC leaves UDP closed.
	NoQUIC bool
	// Preset is the ingress preset; "" means oscar. "none" means none.
	Preset string
	// EdgeDir, if set, is given the path of the edge's state directory before there is one.
	EdgeDir func(path string)
	// Store is a PostgreSQL; "" is SQLite. On one, the edge is called east, others may follow (AddEdge), and connectors stay with it.
	Store string
	// More is what an edge's configuration says besides, by the edge's name; it takes the place of drain.
	More func(name string) string
	// Spread lets connectors hold links to every edge, as they do where nobody lists edges.
	Spread bool
	// Upgraded is how long an edge that stops waits for upgraded connections, 0 for 20 s; Drain is how long a connector waits for
	// everything, 0 for 30 s.
	Upgraded, Drain time.Duration
	// OwnProgram runs the connector from a file of its own, which InstallConnector replaces.
	OwnProgram bool
	// NoConnector leaves the connector enrolled and not started.
	NoConnector bool
	// ConnectorToo is what a connector's configuration says besides, before it is enrolled.
	ConnectorToo string
	// Programs is the directory of edge and connector; "" builds those of this tree.
	Programs string
}

// World is an edge and a connector as processes, and everything that they need.
type World struct {
	t         testing.TB
	Dir       string
	Port      int
	Roots     *x509.CertPool
	Mail      *Sink
	Edge      *Process
	Connector *Process
	bin       string
	opt       Options
	signIns   int
}

// Start builds the programs, starts the edge, sets the clinic up, enrols and starts the connector, and waits until a link is
// up. Everything ends with the test.
func Start(t testing.TB, opt Options) *World {
	t.Helper()
	if opt.Programs == "" {
		opt.Programs = Programs(t)
	}
	w := &World{t: t, Dir: t.TempDir(), bin: opt.Programs, Port: porttest.Free(t), Mail: StartSink(t), opt: opt}
	if opt.EdgeDir != nil {
		opt.EdgeDir(w.path("edge"))
	}
	w.writeEdge(opt, "east")
	w.Admin("init")
	w.Edge = startProcess(t, "edge", filepath.Join(w.bin, "edge"), "serve", "--config", w.path("edge.yaml"))
	w.Wait("the edge to answer", func() error { _, err := w.Try("tenant", "list"); return err })
	w.Roots = x509.NewCertPool()
	w.Roots.AppendCertsFromPEM(w.read("edge", "ca", "ca.pem"))
	w.Admin("tenant", "create", "maple", "--name", "Maple Family Clinic")
	w.Admin("site", "create", "main")
	for _, email := range Doctors() {
		w.Admin("user", "add", email, "--quiet")
	}
	w.Admin("app", "create", "--host", AppHost, "--site", "main", "--allow", strings.Join(Doctors(), ","), "--websocket", "/oscar")
	w.writeConnector(opt)
	w.Enroll()
	program := filepath.Join(w.bin, "connector")
	if opt.OwnProgram {
		program = w.path("connector-program")
		w.InstallConnector(w.ConnectorProgram())
	}
	w.Connector = &Process{t: t, name: "connector", args: []string{program, "run", "--config", w.path("connector.yaml")}}
	if !opt.NoConnector {
		w.Connector = startProcess(t, w.Connector.name, w.Connector.args...)
		w.WaitForLink()
	}
	return w
}

func (w *World) writeEdge(opt Options, name string) {
	several := ""
	if opt.Store != "" {
		several = fmt.Sprintf("store: %q\ncluster: {edge: %s, listen: 127.0.0.1:%d}\n", opt.Store, name, porttest.Free(w.t))
		if !opt.Spread {
			several += fmt.Sprintf("edges: [{url: \"https://%s:%d\"}]\n", edgeOwn, w.Port)
		}
	}
	more := fmt.Sprintf("drain: {upgraded: %s}\n", cmp.Or(opt.Upgraded, 20*time.Second))
	if opt.More != nil {
		more = opt.More(name)
	}
	w.write("edge.yaml", fmt.Sprintf(`state_dir: %s
host: %s
listen: 127.0.0.1:%d
quic: %t
loopback: 127.0.0.1:0
%smail: {host: localhost, port: %d, from: signin@maple.example, ca_file: %s}
%s`, w.path("edge"), edgeOwn, w.Port, !opt.NoQUIC, more, w.Mail.Port(), w.Mail.CAFile(), several))
}

func (w *World) writeConnector(opt Options) {
	rule := fmt.Sprintf("  - host: %s\n    origin: %s\n", AppHost, opt.Origin)
	rule += fmt.Sprintf("    health: {path: %s}\n", probePath)
	if opt.Preset != "none" {
		rule += "    preset: oscar\n"
	}
	if opt.Pin != "" {
		rule += fmt.Sprintf("    tls: {pin_sha256: %q}\n", opt.Pin)
	}
	w.write("ingress.yaml", "rules:\n"+rule+"  - status: 404\n")
	w.configureConnector("connector")
}

// configureConnector writes the configuration of a connector, which has its state in a directory of its name.
func (w *World) configureConnector(name string) {
	w.write(name+".yaml", fmt.Sprintf("state_dir: %s\ningress: %s\nloopback: 127.0.0.1:0\ndrain_timeout: %s\n%s", w.path(name), w.path("ingress.yaml"), cmp.Or(w.opt.Drain, 30*time.Second), w.opt.ConnectorToo))
}

// Enroll pastes a fresh invitation, as the clinic's IT person does.
func (w *World) Enroll() {
	w.t.Helper()
	w.enroll("connector")
}

func (w *World) enroll(name string) {
	w.t.Helper()
	line := strings.Fields(w.Admin("connector", "invite"))
	if len(line) < 2 || line[0] != "connector" || line[1] != "enroll" {
		w.t.Fatalf("invitation: %q", line)
	}
	cmd := exec.Command(filepath.Join(w.bin, "connector"), append(line[1:], "--config", w.path(name+".yaml"))...)
	if text, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("connector enroll: %v\n%s", err, text)
	}
}

// WaitForLink waits until the edge lists a link of the connector.
func (w *World) WaitForLink() {
	w.t.Helper()
	w.Wait("a link", func() error {
		out, err := w.Try("connector", "list", "--output", "json")
		if err == nil && !strings.Contains(out, `"transport"`) {
			err = fmt.Errorf("no link in %s", out)
		}
		return err
	})
}

// Admin runs a command of the edge program and returns what it printed; a failure ends the test.
func (w *World) Admin(args ...string) string {
	w.t.Helper()
	out, err := w.Try(args...)
	if err != nil {
		w.t.Fatalf("edge %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// Try runs a command of the edge program.
func (w *World) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "edge"), append(args, "--config", w.path("edge.yaml"))...)
	var faults strings.Builder
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(faults.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// TryConnector runs a command of the connector's on the clinic's machine, and returns what it printed, also when it failed.
func (w *World) TryConnector(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(w.bin, "connector"), append(args, "--config", w.path("connector.yaml"))...).CombinedOutput()
	return string(out), err
}

// URL is an address on the clinic's app host.
func (w *World) URL(path string) string { return w.HostURL(AppHost, path) }

// HostURL is an address on any host of the edge.
func (w *World) HostURL(host, path string) string {
	return fmt.Sprintf("https://%s:%d%s", host, w.Port, path)
}

// EdgeAddr is where every host is reached.
func (w *World) EdgeAddr() string { return fmt.Sprintf("127.0.0.1:%d", w.Port) }

// Visitor is somebody who has not signed in.
func (w *World) Visitor() *Visitor {
	v := NewVisitor(VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots})
	w.t.Cleanup(v.Close)
	return v
}

// SignIn is a visitor who has signed in as the next of the Doctors.
func (w *World) SignIn() *Visitor {
	w.t.Helper()
	v := w.Visitor()
	email := Doctors()[w.signIns%len(Doctors())]
	w.signIns++
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	resp, err := v.SignIn(ctx, w.URL("/oscar/index.jsp"), email, w.Code(email))
	if err != nil {
		w.t.Fatalf("sign in: %v", err)
	}
	page, err := ReadAll(resp)
	if err != nil || resp.Request.URL.Host != fmt.Sprintf("%s:%d", AppHost, w.Port) {
		w.t.Fatalf("sign in ended at %s with %s, %v: %.300s", resp.Request.URL.Redacted(), resp.Status, err, page)
	}
	return v
}

var digits = regexp.MustCompile(`\b\d{6}\b`)

// Code returns a function that waits for the next code mailed to somebody.
func (w *World) Code(to string) func(context.Context) (string, error) {
	before := len(w.Mail.To(to))
	return func(ctx context.Context) (string, error) {
		text, err := w.Mail.Next(ctx, to, before)
		if err != nil {
			return "", err
		}
		code := digits.FindString(text)
		if code == "" {
			return "", fmt.Errorf("no code in the mail: %s", text)
		}
		return code, nil
	}
}

var (
	loopback  = regexp.MustCompile(`"loopback":"(127\.0\.0\.1:\d+)"`)
	heapInUse = regexp.MustCompile(`(?m)^go_memstats_heap_inuse_bytes (\S+)$`)
)

// Loopback is where a process of ours serves /metrics and /ready.
func (w *World) Loopback(p *Process) string {
	w.t.Helper()
	var at string
	w.Wait("a loopback listener", func() error {
		found := loopback.FindAllStringSubmatch(p.Log(), -1)
		if len(found) == 0 {
			return errors.New("not logged yet")
		}
		at = "http://" + found[len(found)-1][1]
		return nil
	})
	return at
}

// Heap is what a process of ours holds now, bytes.
func (w *World) Heap(p *Process) int64 {
	w.t.Helper()
	resp, err := http.Get(w.Loopback(p) + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := ReadAll(resp)
	found := heapInUse.FindStringSubmatch(text)
	if err != nil || found == nil {
		w.t.Fatalf("no heap in the metrics: %v", err)
	}
	heap, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return int64(heap)
}

// Wait tries until it works; after Patience the test ends with the last error.
func (w *World) Wait(what string, try func() error) {
	w.t.Helper()
	Eventually(w.t, what, try)
}

// Eventually tries until it works; after Patience the test ends with the last error.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", Patience, what, err)
		case <-tick.C:
		}
	}
}

func (w *World) path(parts ...string) string {
	return filepath.Join(append([]string{w.Dir}, parts...)...)
}

func (w *World) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *World) read(parts ...string) []byte {
	w.t.Helper()
	text, err := os.ReadFile(w.path(parts...))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// built holds the programs of this test binary's run.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-programs-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "github.com/sallyport-dev/sallyport/cmd/edge", "github.com/sallyport-dev/sallyport/cmd/connector")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return dir, nil
})

// Programs builds edge and connector once for each test binary and returns their directory.
func Programs(t testing.TB) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatalf("go build: %v", err)
	}
	return dir
}
