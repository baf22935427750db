package controlserver_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func (w *world) enrolAt(t *testing.T) (*httptest.Server, tunnel.Target) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(controlserver.EnrollPath, w.server.EnrollHandler())
	edge := httptest.NewTLSServer(mux)
	t.Cleanup(edge.Close)
	u, err := url.Parse(edge.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(edge.Certificate())
	return edge, tunnel.Target{URL: u, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}, ServerName: "example.com"}
}

func (w *world) invite(t *testing.T) string {
	t.Helper()
	code, _, err := enroll.NewService(w.store, time.Now).Invite(t.Context(), "maple", "main")
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestEnrolOverHTTPS(t *testing.T) {
	w := newWorld(t)
	_, target := w.enrolAt(t)
	code := w.invite(t)
	public := w.key.Public().(ed25519.PublicKey)
	got, err := controlclient.Enroll(t.Context(), target, code, public)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tenant != "maple" || got.Site != "main" || !got.RootKey.Equal(w.ring.RootPublic()) {
		t.Errorf("%+v", got)
	}
	if c, err := w.store.Connector(t.Context(), got.Connector); err != nil || !c.PublicKey.Equal(public) {
		t.Errorf("registered %+v, %v", c, err)
	}
	_, used := controlclient.Enroll(t.Context(), target, code, public)
	_, wrong := controlclient.Enroll(t.Context(), target, strings.Repeat("A", 26), public)
	if !fault.Is(used, fault.Denied) || !fault.Is(wrong, fault.Denied) || used.Error() != wrong.Error() {
		t.Errorf("used: %v; wrong: %v", used, wrong)
	}
	target.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	if _, err := controlclient.Enroll(t.Context(), target, w.invite(t), public); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an edge with an unknown certificate got the code: %v", err)
	}
}

func TestEnrolmentRefusesOddRequests(t *testing.T) {
	w := newWorld(t)
	handler := w.server.EnrollHandler()
	try := func(source, method, media, body string) int {
		r := httptest.NewRequest(method, controlserver.EnrollPath, strings.NewReader(body))
		r.RemoteAddr = source
		r.Header.Set("Content-Type", media)
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, r)
		if strings.Contains(out.Body.String(), "root_key") {
			t.Errorf("%s %q: enrolled", method, body)
		}
		_, _ = io.Copy(io.Discard, out.Body)
		return out.Code
	}
	const json = "application/json"
	for i, row := range []struct {
		method, media, body string
		want                int
	}{
		{"GET", json, "", http.StatusMethodNotAllowed},
		{"POST", "text/plain", `{"code":"x"}`, http.StatusBadRequest},
		{"POST", "application/x-www-form-urlencoded", `code=x`, http.StatusBadRequest},
		{"POST", json, `{`, http.StatusBadRequest},
		{"POST", json, `{"code":"A","public_key":"AA"}`, http.StatusBadRequest},
		{"POST", json, `{"code":"A","public_key":"` + strings.Repeat("A", 43) + `","tenant":"cedar"}`, http.StatusBadRequest},
		{"POST", json, `{"code":"A","public_key":"` + strings.Repeat("A", 43) + `"}{}`, http.StatusBadRequest},
		{"POST", json, `{"code":"` + strings.Repeat("A", 100_000) + `"}`, http.StatusBadRequest},
		{"POST", json, `{"code":"A","public_key":"` + strings.Repeat("A", 43) + `"}`, http.StatusForbidden},
	} {
		if got := try("192.0.2."+string(rune('1'+i))+":1", row.method, row.media, row.body); got != row.want {
			t.Errorf("%s %s %.60q: %d, want %d", row.method, row.media, row.body, got, row.want)
		}
	}
	// One source is slowed, its whole IPv6 network as one; others are not.
	last := 0
	for i := range 30 {
		last = try("[2001:db8::"+string(rune('1'+i%9))+"]:1", "POST", json, "{")
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the thirtieth try got %d", last)
	}
	if got := try("[2001:db8:1::1]:1", "POST", json, "{"); got != http.StatusBadRequest {
		t.Errorf("another network got %d", got)
	}
}
