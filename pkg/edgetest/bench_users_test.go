package edgetest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

const (
	benchUsers    = 200
	benchDuration = 60 * time.Second
	// What edge and connector may hold with benchUsers at work, bytes of heap in use, garbage included.
	edgeCeiling      = 224 << 20
	connectorCeiling = 96 << 20
)

// BenchmarkUsers has 200 people, each from an address of their own and signed in by a mailed code, at work for a minute. No
// request may fail, every body is checked by digest, and edge and connector stay under their heap ceilings.
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
						once.Do(func() { b.Log("first fault:", err) })
					}
				}
			})
		}
		edge, connector := peakHeap(w, &wg)
		elapsed, used := time.Since(began), cpu(b, w.Edge.PID(), w.Connector.PID())-before
		count := float64(max(1, requests.Load()))
		for unit, v := range map[string]float64{
			"requests": count, "failed": float64(failed.Load()), "requests/s": count / elapsed.Seconds(), "MB/s-of-bodies": float64(bytes.Load()) / 1e6 / elapsed.Seconds(),
			"CPU-µs/request": float64(used.Microseconds()) / count, "edge-heap-MiB": float64(edge >> 20), "connector-heap-MiB": float64(connector >> 20),
		} {
			b.ReportMetric(v, unit)
		}
		if failed.Load() > 0 {
			b.Errorf("%d requests failed", failed.Load())
		}
		if edge > edgeCeiling || connector > connectorCeiling {
			b.Errorf("heap: edge %d of %d bytes, connector %d of %d", edge, edgeCeiling, connector, connectorCeiling)
		}
	}
}

// peakHeap waits for the work to end and returns the most that each process held, garbage included, looked at every second.
func peakHeap(w *edgetest.World, work *sync.WaitGroup) (edge, connector int64) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		work.Wait()
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		edge, connector = max(edge, w.Heap(w.Edge)), max(connector, w.Heap(w.Connector))
		select {
		case <-ended:
			return edge, connector
		case <-tick.C:
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

// cpu is the processor time, user and system, that processes have used.
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
