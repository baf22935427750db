package quiclink_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// heap is what is held now, bytes, by both ends: they are one process here.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Heads that do not end, on every stream that may be opened, and heads that a byte each makes large, as often as they are taken: the
// memory for them is bounded for each connection, handlers never see one, and others are answered meanwhile (attack case E1).
func TestHTTP3FloodOfHeads(t *testing.T) {
	const (
		browsers = 4
		tries    = 1500 // for each: about 60 MB of heads, if they were taken
		// enough streams of one connection show the flood; most is several times what the limits come to for them: 100 heads at work
		// and some waiting streams for each connection.
		enough  = 100
		most    = 120 << 20
		headers = 0x01
	)
	var seen atomic.Int64
	s := serveHTTP3(t, quiclink.HTTP3{HeaderTimeout: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Honest") == "" {
			seen.Add(1)
		}
		_, _ = io.WriteString(w, "answered")
	})
	endless := join(frame(headers, 40<<10), bytes.Repeat([]byte{0xd1}, 39<<10))
	// Each 0xdd is a whole field of the static table (RFC 9204 §3.1, 29: accept: */*), 41 bytes as §4.2.2 of RFC 9114 counts them.
	bomb := join(frame(headers, 39<<10, 0, 0), bytes.Repeat([]byte{0xdd}, 39<<10-2))
	before := heap()
	var flood sync.WaitGroup
	var opened, bombs atomic.Int64
	for range browsers {
		conn := s.conn()
		flood.Go(func() {
			for n := range tries {
				wait := patience
				if n >= enough {
					wait = time.Second // no more are taken
				}
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				stream, err := conn.OpenStreamSync(ctx)
				cancel()
				if err != nil {
					return
				}
				opened.Add(1)
				_ = stream.SetDeadline(time.Now().Add(time.Second))
				if n%4 != 0 || n > tries/2 {
					_, _ = stream.Write(endless)
					continue
				}
				bombs.Add(1)
				_, _ = stream.Write(bomb)
				_ = stream.Close()
				stream.CancelRead(quic.StreamErrorCode(0))
			}
		})
	}
	flood.Wait()
	held := heap() - before
	t.Logf("%d streams, %d of them bombs: %d KiB more", opened.Load(), bombs.Load(), held>>10)
	if held > most {
		t.Errorf("%d MiB are held for heads", held>>20)
	}
	honest := s.request(http.MethodGet, "/", nil)
	honest.Header.Set("X-Honest", "1")
	if _, text := s.do(honest); text != "answered" {
		t.Errorf("another browser got %q", text)
	}
	if seen.Load() != 0 {
		t.Errorf("%d heads over the limit reached the handler", seen.Load())
	}
	if opened.Load() < browsers*enough || bombs.Load() < browsers {
		t.Error("too few streams to tell anything")
	}
}
