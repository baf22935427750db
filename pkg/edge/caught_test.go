package edge

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// A panic ends its own connection, is told of with its place and without its words, and never looks like an answer.
func TestAPanicIsToldOf(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	e := &Edge{logger: zap.New(core), refused: metric.New().Counter("sallyport_edge_refused_total", "x", "reason")}
	server := httptest.NewUnstartedServer(e.caught(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut":
			panic(http.ErrAbortHandler)
		case "/fault":
			panic("demographic 4711")
		}
	})))
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	server.Start()
	defer server.Close()
	for path, told := range map[string]int{"/fine": 0, "/cut": 0, "/fault": 1} {
		resp, err := server.Client().Get(server.URL + path)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if (err == nil) != (path == "/fine") {
			t.Errorf("%s: %v", path, err)
		}
		entries := logged.TakeAll()
		if len(entries) != told {
			t.Errorf("%s: %d lines", path, len(entries))
		}
		for _, entry := range entries {
			stack, _ := entry.ContextMap()["stack"].(string)
			if !strings.Contains(stack, "caught_test.go") || strings.Contains(stack+entry.Message, "4711") {
				t.Errorf("%s: %s %v", path, entry.Message, entry.ContextMap())
			}
		}
	}
}
