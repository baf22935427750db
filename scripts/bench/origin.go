package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	process "github.com/sallyport-dev/sallyport/pkg/run"
)

// stageHeap is how much garbage the load generator and the origin may gather, bytes: they have the same processors as what is measured,
// and what they collect is taken from it.
const stageHeap = 64 << 20

// serveOrigin is the role of the server behind everything: bodies of a length that is asked for, and a place for uploads.
// HTTP/1.1 without TLS, like most origins on their own machine.
func serveOrigin() error {
	defer process.Heap(stageHeap)()
	mux := http.NewServeMux()
	block := make([]byte, 64<<10)
	mux.HandleFunc("GET /object", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
		if err != nil {
			http.Error(w, "bytes: want a number", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		for n > 0 {
			took, err := w.Write(block[:min(n, int64(len(block)))])
			if err != nil {
				return
			}
			n -= int64(took)
		}
	})
	mux.HandleFunc("POST /sink", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		fmt.Fprint(w, n)
	})
	server := &http.Server{Addr: os.Getenv("SALLYPORT_BENCH_LISTEN"), Handler: mux, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}
