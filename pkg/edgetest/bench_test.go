package edgetest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// The figures here are ratios of one run on one machine: each path does the same work, one after the other, in the same
// rounds, beside a calibration row. Nothing is compared with a figure from elsewhere.

// cpu is the processor time that a process has used.
func cpu(b *testing.B, pids ...int) time.Duration {
	b.Helper()
	var ticks int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
		for _, f := range fields[11:13] { // utime, stime, in ticks of 10 ms
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// lane is one way to the application.
type lane struct {
	name   string
	client *http.Client
	base   string
	header http.Header
	world  *edgetest.World // nil for the application alone

	requests, down, up []sample // one a round
	record             recorded
}

// sample is one round's measurement.
type sample struct {
	rate            float64 // requests a second, or MB a second
	edge, connector time.Duration
	p50, p99        time.Duration
}

const (
	benchRounds      = 3
	benchConnections = 64
	benchWarm        = 4 * time.Second // Java compiles what it runs often; a cold application would flatter us
	benchRound       = 4 * time.Second
	benchDown        = 400_000_000 // bytes
	benchUp          = 200_000_000
)

// calibrate fetches bytes from a bare net/http server over TLS on loopback: what this machine can do now.
func calibrate(b *testing.B) float64 {
	b.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, benchDown)
	}))
	defer server.Close()
	began := time.Now()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != benchDown {
		b.Fatalf("calibration: %d bytes, %v", n, err)
	}
	return benchDown / 1e6 / time.Since(began).Seconds()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkPath prints, for the application alone and through Sallyport over each transport, what edge and connector spend
// on a request and on a gigabyte, and what a client sees. Rounds alternate between the ways; medians are printed. The
// client, Tomcat and both programs share the machine's processors, so that requests a second and MB/s say what all of
// them together reach: CPU is the figure that is Sallyport's own.
func BenchmarkPath(b *testing.B) {
	tomcat := edgetest.StartTomcat(b, edgetest.TomcatOptions{})
	lanes := []*lane{{name: "application alone", base: tomcat.URL, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: benchConnections, DisableCompression: true,
	}}}}
	for _, noQUIC := range []bool{false, true} {
		lanes = append(lanes, through(b, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin, NoQUIC: noQUIC}))
	}
	for _, l := range lanes {
		l.run(b, benchWarm)
	}
	b.ResetTimer()
	for range b.N {
		var bare []sample
		for _, l := range lanes {
			l.requests, l.down, l.up, l.record = nil, nil, nil, recorded{}
		}
		for range benchRounds {
			bare = append(bare, sample{rate: calibrate(b)})
			for _, l := range lanes {
				l.round(b)
			}
		}
		show(lanes, middle(bare).rate)
	}
}

// through is the way over a World of its own, with a service's token: TLS in front, token, policy and record on.
func through(b *testing.B, opt edgetest.Options) *lane {
	b.Helper()
	w := edgetest.Start(b, opt)
	app := strings.Fields(strings.Split(w.Admin("app", "list"), "\n")[1])[0]
	w.Admin("app", "access", app, "--allow-service", "bench")
	name := "sallyport, QUIC"
	if opt.NoQUIC {
		name = "sallyport, WebSocket"
	}
	v := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots, HTTP1: true})
	b.Cleanup(v.Close)
	v.Client.Transport.(*http.Transport).MaxIdleConnsPerHost = benchConnections
	return &lane{
		name: name, base: strings.TrimSuffix(w.URL("/"), "/"), client: v.Client, world: w,
		header: http.Header{"Sallyport-Access-Token": {w.Admin("token", "mint", "bench")}},
	}
}

// show prints the tables of medians.
func show(lanes []*lane, bare float64) {
	alone := lanes[0]
	fmt.Printf("\n%d connections, a page of some 2 KB, median of %d alternating rounds\n", benchConnections, benchRounds)
	fmt.Printf("%-24s %10s %8s %9s %9s | CPU/request %9s %9s %9s\n", "", "requests/s", "× alone", "p50", "p99", "edge", "connector", "both")
	for _, l := range lanes {
		m := middle(l.requests)
		fmt.Printf("%-24s %10.0f %8.2f %9s %9s |             %9s %9s %9s\n", l.name, m.rate, m.rate/middle(alone.requests).rate,
			m.p50.Round(10*time.Microsecond), m.p99.Round(10*time.Microsecond), l.spent(m.edge), l.spent(m.connector), l.spent(m.edge+m.connector))
	}
	for _, l := range lanes[1:] {
		fmt.Printf("%-24s record: %s\n", l.name, l.record)
	}
	fmt.Printf("\none body of %d MB down, %d MB up\n", benchDown/1_000_000, benchUp/1_000_000)
	fmt.Printf("%-24s %9s %8s %8s | %9s %8s %8s\n", "", "down MB/s", "× alone", "CPU/GB", "up MB/s", "× alone", "CPU/GB")
	fmt.Printf("%-24s %9.0f %8.2f\n", "calibration: net/http", bare, bare/middle(alone.down).rate)
	for _, l := range lanes {
		down, up := middle(l.down), middle(l.up)
		fmt.Printf("%-24s %9.0f %8.2f %8s | %9.0f %8.2f %8s\n", l.name, down.rate, down.rate/middle(alone.down).rate, l.spent(down.edge+down.connector),
			up.rate, up.rate/middle(alone.up).rate, l.spent(up.edge+up.connector))
	}
}

// spent prints CPU, which is nobody's where Sallyport is not on the way.
func (l *lane) spent(d time.Duration) string {
	switch {
	case l.world == nil:
		return "-"
	case d > time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// middle is the median of each column.
func middle(rounds []sample) sample {
	at := func(of func(sample) float64) float64 {
		values := make([]float64, len(rounds))
		for i, r := range rounds {
			values[i] = of(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		rate:      at(func(s sample) float64 { return s.rate }),
		edge:      time.Duration(at(func(s sample) float64 { return float64(s.edge) })),
		connector: time.Duration(at(func(s sample) float64 { return float64(s.connector) })),
		p50:       time.Duration(at(func(s sample) float64 { return float64(s.p50) })),
		p99:       time.Duration(at(func(s sample) float64 { return float64(s.p99) })),
	}
}

// used is what edge and connector have spent by now.
func (l *lane) used(b *testing.B) (edge, connector time.Duration) {
	b.Helper()
	if l.world == nil {
		return 0, 0
	}
	return cpu(b, l.world.Edge.PID()), cpu(b, l.world.Connector.PID())
}

// round measures once: pages, then a body down, then a body up.
func (l *lane) round(b *testing.B) {
	b.Helper()
	edge, connector := l.used(b)
	before := l.recorder(b)
	took, elapsed := l.run(b, benchRound)
	l.record.add(before, l.recorder(b))
	s := sample{rate: float64(len(took)) / elapsed.Seconds(), p50: took[len(took)/2], p99: took[len(took)*99/100]}
	edgeNow, connectorNow := l.used(b)
	s.edge, s.connector = (edgeNow-edge)/time.Duration(len(took)), (connectorNow-connector)/time.Duration(len(took))
	l.requests = append(l.requests, s)
	l.down = append(l.down, l.bulk(b, benchDown, func() error {
		n, err := l.get(fmt.Sprintf("/oscar/servlet/BackupDownload?bytes=%d", benchDown))
		if err == nil && n != benchDown {
			err = fmt.Errorf("%d bytes came", n)
		}
		return err
	}))
	l.up = append(l.up, l.bulk(b, benchUp, func() error { return l.post(benchUp) }))
}

// run keeps the connections busy with small pages and returns how long each took, sorted.
func (l *lane) run(b *testing.B, d time.Duration) (took []time.Duration, elapsed time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var fault error
	began := time.Now()
	var wg sync.WaitGroup
	for range benchConnections {
		wg.Go(func() {
			var mine []time.Duration
			var failed error
			for time.Since(began) < d && failed == nil {
				at := time.Now()
				_, failed = l.get("/oscar/css/oscar.css")
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took, fault = append(took, mine...), errors.Join(fault, failed)
		})
	}
	wg.Wait()
	if fault != nil {
		b.Fatalf("%s: %v", l.name, fault)
	}
	elapsed = time.Since(began)
	slices.Sort(took)
	return took, elapsed
}

// get fetches a page or a body and returns its length.
func (l *lane) get(path string) (int64, error) {
	req, err := http.NewRequest(http.MethodGet, l.base+path, nil)
	if err != nil {
		return 0, err
	}
	for k, v := range l.header {
		req.Header[k] = v
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n == 0) {
		err = fmt.Errorf("%s: %s, %d bytes", path, resp.Status, n)
	}
	return n, err
}

// post sends a body and has the application say how much of it came.
func (l *lane) post(size int64) error {
	req, err := http.NewRequest(http.MethodPost, l.base+"/oscar/echo", io.LimitReader(zeros{}, size))
	if err != nil {
		return err
	}
	for k, v := range l.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	text, err := edgetest.ReadAll(resp)
	if err == nil && !strings.Contains(text, fmt.Sprintf(`"bodyBytes":%d`, size)) {
		err = fmt.Errorf("upload: %s: not all of it came", resp.Status)
	}
	return err
}

// bulk measures one transfer of size bytes; its CPU is per GB.
func (l *lane) bulk(b *testing.B, size int64, transfer func() error) sample {
	b.Helper()
	edge, connector := l.used(b)
	began := time.Now()
	if err := transfer(); err != nil {
		b.Fatalf("%s: %v", l.name, err)
	}
	s := sample{rate: float64(size) / 1e6 / time.Since(began).Seconds()}
	edgeNow, connectorNow := l.used(b)
	perGB := 1e9 / float64(size)
	s.edge, s.connector = time.Duration(float64(edgeNow-edge)*perGB), time.Duration(float64(connectorNow-connector)*perGB)
	return s
}

// recorded is what the edge's recorder did: how many decisions, in how many commits, and how long those took.
type recorded struct{ decisions, commits, seconds float64 }

func (r *recorded) add(before, after recorded) {
	r.decisions += after.decisions - before.decisions
	r.commits += after.commits - before.commits
	r.seconds += after.seconds - before.seconds
}

func (r recorded) String() string {
	return fmt.Sprintf("%.0f decisions made durable, %.1f in a commit of %.2f ms: %.0f µs each, waiting for the disk included",
		r.decisions, r.decisions/r.commits, r.seconds/r.commits*1e3, r.seconds/r.decisions*1e6)
}

// recorder reads the recorder's metrics.
func (l *lane) recorder(b *testing.B) recorded {
	b.Helper()
	if l.world == nil {
		return recorded{}
	}
	resp, err := http.Get(l.world.Loopback(l.world.Edge) + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	text, err := edgetest.ReadAll(resp)
	if err != nil {
		b.Fatal(err)
	}
	value := func(name string) float64 {
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
				if err != nil {
					b.Fatal(err)
				}
				return v
			}
		}
		b.Fatalf("no metric %s", name)
		return 0
	}
	return recorded{value("sallyport_audit_batch_decisions_sum"), value("sallyport_audit_commit_seconds_count"), value("sallyport_audit_commit_seconds_sum")}
}
