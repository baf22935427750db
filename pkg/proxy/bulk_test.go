package proxy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	bulk = 64 << 20
	// heapCeiling is what a body of any size may add to the heap of edge, link, connector, origin and client together.
	heapCeiling = 32 << 20
)

// noise is size bytes that differ everywhere, and their digest.
func noise(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

func digest(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// peak watches the heap while f runs and returns its highest growth.
func peak(f func()) int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, highest := int64(m.HeapInuse), atomic.Int64{}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				highest.Store(max(highest.Load(), int64(m.HeapInuse)-before))
			}
		}
	})
	f()
	close(stop)
	watching.Wait()
	return highest.Load()
}

func TestBulkIsStreamed(t *testing.T) {
	want := digest(t, noise(bulk))
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			h := sha256.New()
			_, _ = io.Copy(h, r.Body)
			_, _ = io.WriteString(w, hex.EncodeToString(h.Sum(nil)))
			return
		}
		if r.URL.Path == "/oscar/known" {
			w.Header().Set("Content-Length", strconv.Itoa(bulk))
		}
		_, _ = io.Copy(w, noise(bulk))
	}), wayConfig{})
	for name, f := range map[string]func() string{
		"download": func() string {
			return digest(t, w.do(w.request(http.MethodGet, "/oscar/known", nil)).Body)
		},
		"download without a length": func() string {
			return digest(t, w.do(w.request(http.MethodGet, "/oscar/unknown", nil)).Body)
		},
		"upload": func() string {
			r := w.request(http.MethodPost, "/oscar/upload", noise(bulk))
			r.ContentLength = bulk
			return readAll(t, w.do(r).Body)
		},
		"upload without a length": func() string {
			return readAll(t, w.do(w.request(http.MethodPost, "/oscar/upload", noise(bulk))).Body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			grown := peak(func() { got = f() })
			if got != want {
				t.Errorf("digest %s, want %s", got, want)
			}
			if grown > heapCeiling {
				t.Errorf("the heap grew by %d MiB, more than %d", grown>>20, heapCeiling>>20)
			}
			r := w.result()
			if r.BytesIn+r.BytesOut < bulk || r.ErrorCode != "" {
				t.Errorf("outcome %+v", r)
			}
		})
	}
}

// BenchmarkRequest compares a request of 1 KiB over the whole path with one straight to the origin.
func BenchmarkRequest(b *testing.B) {
	page := make([]byte, 1<<10)
	url := origin(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(page)
	})
	run := func(b *testing.B, target string) {
		tr := &http.Transport{MaxIdleConnsPerHost: 64}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, target, nil)
				if err != nil {
					b.Error(err)
					return
				}
				r.Host = publicHost
				resp, err := tr.RoundTrip(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	b.Run("origin", func(b *testing.B) { run(b, url+"/oscar/x") })
	b.Run("path", func(b *testing.B) {
		w := newWay(b, url, wayConfig{})
		stop := make(chan struct{})
		var draining sync.WaitGroup
		draining.Go(func() {
			for {
				select {
				case <-w.results:
				case <-stop:
					return
				}
			}
		})
		run(b, w.edge.URL+"/oscar/x")
		close(stop)
		draining.Wait()
	})
}
