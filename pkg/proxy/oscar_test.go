package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func TestPresetOverThePath(t *testing.T) {
	hits := make(chan string, 16)
	w := newWay(t, origin(t, func(rw http.ResponseWriter, r *http.Request) {
		hits <- r.URL.Path
		// A log-out that expires every cookie it is sent, and a redirect that carries a session id.
		for _, c := range r.Cookies() {
			http.SetCookie(rw, &http.Cookie{Name: c.Name, Path: "/", MaxAge: -1})
		}
		rw.Header().Set("Location", "/oscar/index.jsp;jsessionid=A1.node?x=1")
		rw.WriteHeader(http.StatusFound)
		_, _ = fmt.Fprint(rw, strings.HasPrefix(r.RemoteAddr, "127.0.0.1:"))
	}), wayConfig{extra: "    preset: oscar\n"})

	resp := w.do(w.request(http.MethodGet, "/oscar/monitoring", nil))
	if got := errorCode(t, resp); got != wire.CodeDenied || resp.StatusCode != http.StatusForbidden || len(hits) != 0 {
		t.Errorf("internal page: %d %s, origin saw %d requests", resp.StatusCode, got, len(hits))
	}
	resp, _ = w.get("/")
	if resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/oscar/" || len(hits) != 0 {
		t.Errorf("bare host: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	r := w.request(http.MethodGet, "/oscar/logout.jsp", nil)
	r.Header.Set("Cookie", "JSESSIONID=A1; __Host-Http-sallyport=ref")
	resp = w.do(r)
	if trusted := readAll(t, resp.Body); trusted != "false" {
		t.Error("the origin took the connector for itself")
	}
	if got := resp.Header.Get("Location"); got != "/oscar/index.jsp?x=1" {
		t.Errorf("Location %q", got)
	}
	if got := strings.Join(resp.Header["Set-Cookie"], "|"); !strings.HasPrefix(got, "JSESSIONID=;") || strings.Contains(got, "sallyport") {
		t.Errorf("log-out set %q", got)
	}
}

// Slow reports of one session leave room for the others.
func TestSlowReportsOfOneSessionDoNotStarveOthers(t *testing.T) {
	slow := make(chan struct{})
	arrived := make(chan struct{}, 16)
	w := newWay(t, origin(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oscar/report" {
			arrived <- struct{}{}
			<-slow
		}
	}), wayConfig{extra: "    parallel: 1\n    queue: 1\n    timeouts: {queue: 1s}\n"})
	go func() {
		resp, err := w.client().Do(w.request(http.MethodGet, "/oscar/report", nil))
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-arrived
	resp := w.do(w.request(http.MethodGet, "/oscar/x", nil))
	if got := errorCode(t, resp); got != wire.CodeOriginBusy || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("behind a full origin: %d %s", resp.StatusCode, got)
	}
	close(slow)
	if resp, _ := w.get("/oscar/x"); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

func TestHealthFollowsTheOrigin(t *testing.T) {
	status := make(chan int, 8)
	w := newWay(t, origin(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(max(200, <-status)) }),
		wayConfig{extra: "    health: {path: /oscar/index.jsp, interval: 1s}\n"})
	if w.ingress.Health()[0].Healthy {
		t.Error("healthy before anything was asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.ingress.Run(ctx)
	}()
	for _, c := range []struct {
		answer  int
		healthy bool
	}{{200, true}, {503, false}, {302, true}} {
		status <- c.answer
		deadline := time.After(patience)
		for w.ingress.Health()[0].Status != c.answer {
			select {
			case <-deadline:
				t.Fatalf("status %d was never noticed", c.answer)
			case <-time.After(5 * time.Millisecond):
			}
		}
		if h := w.ingress.Health()[0]; h.Healthy != c.healthy {
			t.Errorf("after %d: %+v", c.answer, h)
		}
	}
	cancel()
	close(status)
	<-done
}
