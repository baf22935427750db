package edgetest_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// A clinic whose connector works is told so, by commands that leave its link alone; one without UDP, and one whose OSCAR is
// down, are told that.
func TestDoctorOnTheClinicsMachine(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	defer origin.Close()
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, Preset: "none"})
	loopback := strings.TrimPrefix(w.Loopback(w.Connector), "http://")
	before := generations(w)
	if !strings.Contains(before, "generation") {
		t.Fatalf("the edge lists no generation: %q", before)
	}

	out, err := w.TryConnector("doctor", "--loopback", loopback)
	if err != nil || !strings.Contains(out, "All is well.") {
		t.Errorf("%v:\n%s", err, out)
	}
	for _, want := range []string{`ok +enrolment +enrolled as con_`, `ok +UDP \d+ +QUIC reaches`, `ok +certificate +trusted`, `ok +link +up over quic`, `ok +origin .*answers`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	out, err = w.TryConnector("diag", "--loopback", loopback, "--output", bundle)
	if err != nil || !regexp.MustCompile(`(?s)fast lane.*quic to https://edge\.localhost.*bulk lane.*websocket to`).MatchString(out) {
		t.Errorf("%v:\n%s", err, out)
	}
	if after := generations(w); after != before {
		t.Errorf("the commands changed who is linked: %s, before %s", after, before)
	}
	origin.Close()
	if out, err = w.TryConnector("doctor", "--loopback", loopback); err == nil || !strings.Contains(out, "takes no connection") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestDoctorWithoutUDP(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, Preset: "none", NoQUIC: true})
	out, err := w.TryConnector("doctor", "--loopback", strings.TrimPrefix(w.Loopback(w.Connector), "http://"))
	if err == nil || !strings.Contains(out, "it works over WebSocket") || !regexp.MustCompile(`ok +link +up over websocket`).MatchString(out) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// generations is what the edge lists of generations and frozen connectors.
func generations(w *edgetest.World) string {
	return strings.Join(regexp.MustCompile(`"(generation|frozen)":\s*"?[^",}]*`).FindAllString(w.Admin("connector", "list", "--output", "json"), -1), " ")
}
