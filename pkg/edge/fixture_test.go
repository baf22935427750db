package edge

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// record asks a handler for a path.
func record(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// eventually tries until it is so, for 15 s at most.
func eventually(t testing.TB, what string, try func() bool) {
	t.Helper()
	tick, limit := time.NewTicker(20*time.Millisecond), time.After(15*time.Second)
	defer tick.Stop()
	for !try() {
		select {
		case <-limit:
			t.Fatalf("%s: not within 15 s", what)
		case <-tick.C:
		}
	}
}
