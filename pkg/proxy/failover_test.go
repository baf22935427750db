package proxy_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func nobody(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	return "http://" + ln.Addr().String()
}

// A second origin serves what the first took no connection for, with the whole body; what may have reached the first is never
// sent again.
func TestFailoverSendsNothingTwice(t *testing.T) {
	var hits atomic.Int32
	second := origin(t, func(rw http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		_, _ = rw.Write([]byte("second got " + readAll(t, r.Body)))
	})
	rules := func(first string) wayConfig {
		return wayConfig{rules: "rules:\n  - origins: [" + first + ", " + second + "]\n"}
	}
	w := newWay(t, second, rules(nobody(t)))
	resp := w.do(w.request(http.MethodPost, "/oscar/save.do", strings.NewReader("a note")))
	if text := readAll(t, resp.Body); resp.StatusCode != http.StatusOK || text != "second got a note" || hits.Load() != 1 {
		t.Errorf("%d %q after %d requests", resp.StatusCode, text, hits.Load())
	}
	hits.Store(0)
	var first atomic.Int32
	dies := origin(t, func(http.ResponseWriter, *http.Request) {
		first.Add(1)
		panic(http.ErrAbortHandler)
	})
	w = newWay(t, second, rules(dies))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp = w.do(w.request(method, "/oscar/save.do", nil))
		if got := errorCode(t, resp); got != wire.CodeOriginAbort {
			t.Errorf("%s: %d %s", method, resp.StatusCode, got)
		}
	}
	if first.Load() != 2 || hits.Load() != 0 {
		t.Errorf("the first origin saw %d requests, the second %d", first.Load(), hits.Load())
	}
}

// An origin that takes connections and does not answer is found out by its checks: then people are told at once, another
// origin's are not touched, and when it goes on all is well by itself.
func TestAHangingOriginOpensItsCircuitAlone(t *testing.T) {
	var hung atomic.Bool
	goOn := make(chan struct{})
	first := origin(t, func(http.ResponseWriter, *http.Request) {
		if hung.Load() {
			<-goOn
		}
	})
	other := origin(t, func(http.ResponseWriter, *http.Request) {})
	check := "    health: {interval: 1s, timeout: 100ms}\n"
	w := newWay(t, first, wayConfig{rules: "rules:\n  - path: /oscar\n    origin: " + first + "\n" + check + "  - origin: " + other + "\n" + check})
	hung.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.ingress.Run(ctx)
	}()
	until := func(circuit string) {
		t.Helper()
		deadline := time.After(patience)
		for w.ingress.Health()[0].Circuit != circuit {
			select {
			case <-deadline:
				t.Fatalf("never %s: %+v", circuit, w.ingress.Health()[0])
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	until("open")
	if h := w.ingress.Health()[0]; h.State != "timeout" || h.Healthy || w.ingress.Serving() {
		t.Errorf("%+v", h)
	}
	began := time.Now()
	resp := w.do(w.request(http.MethodGet, "/oscar/x", nil))
	if got := errorCode(t, resp); got != wire.CodeOriginRefused || resp.StatusCode != http.StatusBadGateway || time.Since(began) > 5*time.Second {
		t.Errorf("%d %s after %s", resp.StatusCode, got, time.Since(began))
	}
	if resp, _ := w.get("/other"); resp.StatusCode != http.StatusOK {
		t.Errorf("the other origin: %d", resp.StatusCode)
	}
	hung.Store(false)
	close(goOn)
	until("closed")
	if resp, _ := w.get("/oscar/x"); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
	cancel()
	<-done
}
