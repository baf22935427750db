package edge

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// A client may close its half of the connection and read on; net/http then ends the request's context. What was refused
// meanwhile must not look like success: an answer that nobody writes is a 200.
func TestWhatFailsForAClientThatWentIsNoSuccess(t *testing.T) {
	pages, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	e := &Edge{pages: pages, logger: zap.NewNop()}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, code := range []fault.Code{fault.Unavailable, fault.Denied, fault.Invalid, fault.Internal, fault.Unauthentic} {
		w := httptest.NewRecorder()
		e.failed(w, httptest.NewRequest(http.MethodPost, "/oscar/save.do", strings.NewReader("x=1")).WithContext(gone), &visit{}, fault.New(code, "x"))
		if w.Code < 400 {
			t.Errorf("%s: answered %d", code, w.Code)
		}
	}
}
