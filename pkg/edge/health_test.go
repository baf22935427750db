package edge

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The load balancer's port says yes or no, whatever else it is asked nothing, and asks the store once a second at most.
func TestHealthTellsYesOrNo(t *testing.T) {
	able, asked, now := true, 0, time.Unix(1_800_000_000, 0)
	h := &health{now: func() time.Time { return now }, able: func(context.Context) (bool, string) {
		asked++
		return able, "words for operators"
	}}
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
		return w.Code, w.Body.String()
	}
	for range 5 {
		if code, text := get("GET", "/ready"); code != 200 || text != "ready\n" {
			t.Errorf("%d %q", code, text)
		}
	}
	able = false
	now = now.Add(healthFresh)
	if code, text := get("GET", "/ready"); code != 503 || text != "not ready\n" {
		t.Errorf("%d %q", code, text)
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	for _, other := range [][2]string{{"GET", "/metrics"}, {"GET", "/"}, {"POST", "/ready"}, {"GET", "/ready/x"}} {
		if code, _ := get(other[0], other[1]); code != 404 {
			t.Errorf("%v: %d", other, code)
		}
	}
}
