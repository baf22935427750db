package edgetest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// Large bodies go on on the bulk lane both ways, whatever the fast lane runs over, and neither browser nor origin notices.
func TestLargeBodiesMove(t *testing.T) {
	transports(t, func(t *testing.T, noQUIC bool) {
		origin := httptest.NewServer(edgetest.StandIn())
		t.Cleanup(origin.Close)
		w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoQUIC: noQUIC})
		d := atWork(t, w)
		w.Wait("a bulk link", func() error {
			resp, err := http.Get(w.Loopback(w.Connector) + "/ready")
			if err != nil {
				return err
			}
			if text, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(text, `"lane":"bulk"`) {
				return fmt.Errorf("%w: %s", err, text)
			}
			return nil
		})
		if got, want, err := d.upload(20 << 20); err != nil || got != want {
			t.Errorf("upload: the origin has %s, sent %s (%v)", got, want, err)
		}
		if got, want := d.download("bytes=20000000"); got != want {
			t.Errorf("download: %s, want %s", got, want)
		}
		for _, p := range []*edgetest.Process{w.Edge, w.Connector} {
			resp, err := http.Get(w.Loopback(p) + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := edgetest.ReadAll(resp)
			if err != nil {
				t.Fatal(err)
			}
			for _, direction := range []string{"upload", "download"} {
				if line := fmt.Sprintf("sallyport_exchange_moved_total{direction=%q,lane=\"bulk\"} 1\n", direction); !strings.Contains(text, line) {
					t.Errorf("no %q in the metrics", line)
				}
			}
		}
	})
}
