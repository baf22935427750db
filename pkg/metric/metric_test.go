package metric_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

func TestMetricsAreServedAndNamesAreHeldToTheRules(t *testing.T) {
	r := metric.New()
	r.Counter("sallyport_link_opened_total", "Links opened.", "transport").WithLabelValues("quic").Inc()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if want := `sallyport_link_opened_total{transport="quic"} 1`; !strings.Contains(rec.Body.String(), want) {
		t.Errorf("no %s in\n%s", want, rec.Body)
	}
	for _, bad := range []string{"links", "sallyport_links", "sallyport_Link_total", "other_link_total"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("name %q was taken", bad)
				}
			}()
			r.Gauge(bad, "")
		}()
	}
}
