package edgetest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// The figures here are ratios of one run on one machine: each path does the same work, one after the other, in the same
// rounds, beside a calibration row. Nothing is compared with a figure from elsewhere.

const (
	benchUsers    = 200
	benchDuration = 60 * time.Second
	// heapCeiling is what the edge and the connector may each hold with benchUsers at work, bytes.
	heapCeiling = 256 << 20
)

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
	pids   []int
}

// calibrate fetches bytes from a bare net/http server over TLS on loopback: what this machine can do now.
func calibrate(b *testing.B) float64 {
	b.Helper()
	const size = 400_000_000
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, size)
	}))
	defer server.Close()
	began := time.Now()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		b.Fatalf("calibration: %d bytes, %v", n, err)
	}
	return size / 1e6 / time.Since(began).Seconds()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkPath prints, for the application alone and through Sallyport over each transport: requests a second, the CPU that
// edge and connector spend on one, latency, and MB/s both ways.
func BenchmarkPath(b *testing.B) {
	tomcat := edgetest.StartTomcat(b, edgetest.TomcatOptions{})
	lanes := []*lane{{name: "application alone", base: tomcat.URL, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64,
	}}}}
	for _, noQUIC := range []bool{false, true} {
		w := edgetest.Start(b, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin, NoQUIC: noQUIC})
		app := strings.Fields(strings.Split(w.Admin("app", "list"), "\n")[1])[0]
		w.Admin("app", "access", app, "--allow-service", "bench")
		name := "sallyport, QUIC"
		if noQUIC {
			name = "sallyport, WebSocket"
		}
		v := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots, HTTP1: true})
		b.Cleanup(v.Close)
		v.Client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
		lanes = append(lanes, &lane{name: name, base: strings.TrimSuffix(w.URL("/"), "/"), client: v.Client,
			header: http.Header{"Sallyport-Access-Token": {w.Admin("token", "mint", "bench")}}, pids: []int{w.Edge.PID(), w.Connector.PID()}})
	}
	b.ResetTimer()
	for range b.N {
		fmt.Printf("\n%-26s %10s %14s %9s %9s %10s %10s\n", "path (64 connections)", "requests/s", "CPU/request", "p50", "p99", "down MB/s", "up MB/s")
		fmt.Printf("%-26s %10s %14s %9s %9s %10.0f %10s\n", "calibration: net/http TLS", "", "", "", "", calibrate(b), "")
		var alone float64
		for _, l := range lanes {
			rate, each, p50, p99 := l.requests(b, 64, 5*time.Second)
			down, up := l.bulk(b)
			perRequest := "-"
			if len(l.pids) > 0 {
				perRequest = each.Round(time.Microsecond).String()
			} else {
				alone = rate
			}
			fmt.Printf("%-26s %10.0f %14s %9s %9s %10.0f %10.0f   (%.2f × alone)\n", l.name, rate, perRequest,
				p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), down, up, rate/alone)
		}
	}
}

// requests keeps n connections busy with small pages and returns the rate, the processes' CPU for one request, and latency.
func (l *lane) requests(b *testing.B, n int, d time.Duration) (rate float64, each, p50, p99 time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var failed atomic.Int64
	before, began := cpu(b, l.pids...), time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(began) < d {
				at := time.Now()
				if err := l.get("/oscar/css/oscar.css", io.Discard); err != nil {
					failed.Add(1)
					continue
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed, used := time.Since(began), cpu(b, l.pids...)-before
	if failed.Load() > 0 || len(took) == 0 {
		b.Fatalf("%s: %d of %d requests failed", l.name, failed.Load(), len(took))
	}
	slices.Sort(took)
	return float64(len(took)) / elapsed.Seconds(), used / time.Duration(len(took)), took[len(took)/2], took[len(took)*99/100]
}

func (l *lane) get(path string, to io.Writer) error {
	req, err := http.NewRequest(http.MethodGet, l.base+path, nil)
	if err != nil {
		return err
	}
	for k, v := range l.header {
		req.Header[k] = v
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}

// bulk moves 400 MB down and 200 MB up.
func (l *lane) bulk(b *testing.B) (down, up float64) {
	b.Helper()
	const size = 400_000_000
	began := time.Now()
	if err := l.get(fmt.Sprintf("/oscar/servlet/BackupDownload?bytes=%d", size), io.Discard); err != nil {
		b.Fatal(err)
	}
	down = size / 1e6 / time.Since(began).Seconds()
	req, err := http.NewRequest(http.MethodPost, l.base+"/oscar/echo", io.LimitReader(zeros{}, size/2))
	if err != nil {
		b.Fatal(err)
	}
	for k, v := range l.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	began = time.Now()
	resp, err := l.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	if text, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(text, fmt.Sprintf(`"bodyBytes":%d`, size/2)) {
		b.Fatalf("%s: %v", resp.Status, err)
	}
	return down, size / 2 / 1e6 / time.Since(began).Seconds()
}

// BenchmarkUsers has 200 people, each from an address of their own and signed in by a mailed code, at work for a minute. No
// request may fail, every body is checked by digest, and edge and connector stay under a heap ceiling.
func BenchmarkUsers(b *testing.B) {
	tomcat := edgetest.StartTomcat(b, edgetest.TomcatOptions{})
	w := edgetest.Start(b, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin})
	users := signInMany(b, w)
	b.ResetTimer()
	for range b.N {
		var requests, failed, bytes atomic.Int64
		var once sync.Once
		before, began := cpu(b, w.Edge.PID(), w.Connector.PID()), time.Now()
		var wg sync.WaitGroup
		for i, v := range users {
			wg.Go(func() {
				for n := 0; time.Since(began) < benchDuration; n++ {
					moved, err := v.work(w, i, n)
					requests.Add(1)
					bytes.Add(moved)
					if err != nil {
						failed.Add(1)
						once.Do(func() { fmt.Println("first fault:", err) })
					}
				}
			})
		}
		wg.Wait()
		elapsed, used := time.Since(began), cpu(b, w.Edge.PID(), w.Connector.PID())-before
		edge, connector := w.Heap(w.Edge), w.Heap(w.Connector)
		fmt.Printf("\n%d users for %s: %d requests, %d failed, %.0f/s, %.0f MB/s of bodies, %s of CPU a request (edge + connector), heap: edge %d MiB, connector %d MiB\n",
			len(users), elapsed.Round(time.Second), requests.Load(), failed.Load(), float64(requests.Load())/elapsed.Seconds(),
			float64(bytes.Load())/1e6/elapsed.Seconds(), (used / time.Duration(max(1, requests.Load()))).Round(time.Microsecond), edge>>20, connector>>20)
		if failed.Load() > 0 || edge > heapCeiling || connector > heapCeiling {
			b.Errorf("failed %d, heap %d and %d, ceiling %d", failed.Load(), edge, connector, heapCeiling)
		}
	}
}

// worker is one of the many.
type worker struct {
	*edgetest.Visitor
	digest string // of the download that all share
}

// work does one thing: mostly pages, sometimes a document up or down; everything comes back with a digest that fits.
func (v worker) work(w *edgetest.World, user, n int) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch n % 20 {
	case 7: // a document of 256 KiB up
		body := make([]byte, 256<<10)
		_, _ = rand.Read(body)
		sum := sha256.Sum256(body)
		resp, err := v.Fetch(ctx, http.MethodPost, w.URL("/oscar/echo"), strings.NewReader(string(body)))
		if err != nil {
			return 0, err
		}
		text, err := edgetest.ReadAll(resp)
		if err == nil && !strings.Contains(text, hex.EncodeToString(sum[:])) {
			err = fmt.Errorf("upload: %s: digest differs", resp.Status)
		}
		return int64(len(body)), err
	case 14: // a document of 1 MiB down
		resp, err := v.Fetch(ctx, http.MethodGet, w.URL("/oscar/servlet/BackupDownload?bytes=1048576"), nil)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		sum := sha256.New()
		moved, err := io.Copy(sum, resp.Body)
		if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != v.digest {
			err = fmt.Errorf("download: %s: digest %s", resp.Status, got)
		}
		return moved, err
	}
	mark := fmt.Sprintf("%d-%d", user, n)
	resp, err := v.Fetch(ctx, http.MethodGet, w.URL("/oscar/echo?mark="+mark), nil)
	if err != nil {
		return 0, err
	}
	text, err := edgetest.ReadAll(resp)
	if err == nil && !strings.Contains(text, `"queryString":"mark=`+mark+`"`) {
		err = fmt.Errorf("page: %s: somebody else's answer", resp.Status)
	}
	return int64(len(text)), err
}

// signInMany makes the users and signs each in, from an address of their own so that throttles see what they would.
func signInMany(b *testing.B, w *edgetest.World) []worker {
	b.Helper()
	emails := make([]string, benchUsers)
	for i := range emails {
		emails[i] = fmt.Sprintf("user%d@maple.example", i)
		w.Admin("user", "add", emails[i], "--quiet")
	}
	app := strings.Fields(strings.Split(w.Admin("app", "list"), "\n")[1])[0]
	w.Admin("app", "access", app, "--allow", strings.Join(emails, ","))
	users := make([]worker, benchUsers)
	for i, email := range emails {
		source := net.IPv4(127, 0, 2, byte(i+1))
		users[i].Visitor = edgetest.NewVisitor(edgetest.VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots, Source: source})
		b.Cleanup(users[i].Close)
		ctx, cancel := context.WithTimeout(context.Background(), edgetest.Patience)
		resp, err := users[i].SignIn(ctx, w.URL("/oscar/index.jsp"), email, w.Code(email))
		if err != nil {
			b.Fatalf("user %d: %v", i, err)
		}
		if page, _ := edgetest.ReadAll(resp); resp.StatusCode != http.StatusOK {
			b.Fatalf("user %d: %s: %.300s", i, resp.Status, page)
		}
		cancel()
	}
	resp, err := users[0].Fetch(context.Background(), http.MethodGet, w.URL("/oscar/servlet/BackupDownload?bytes=1048576&digest=1"), nil)
	if err != nil {
		b.Fatal(err)
	}
	digest, _ := edgetest.ReadAll(resp)
	for i := range users {
		users[i].digest = strings.TrimSpace(digest)
	}
	return users
}
