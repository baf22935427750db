package guard_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

// BenchmarkPace is what it costs a request without a body, and a small answer, that neither may be slow.
func BenchmarkPace(b *testing.B) {
	h := guard.Pace(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "small") }))
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		w.Body.Reset()
		h.ServeHTTP(w, r)
	}
}
