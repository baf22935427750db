package edgetest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// overHTTP3 is a round tripper that reaches every host of the edge over HTTP/3.
func overHTTP3(t *testing.T, w *edgetest.World) *http3.Transport {
	t.Helper()
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.Roots}, DisableCompression: true,
		Dial: func(ctx context.Context, _ string, conf *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, w.EdgeAddr(), conf, q)
		},
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// A clinic's work over HTTP/3 is the same work: bodies arrive whole, odd requests are refused, and what is revoked is cut.
func TestWorkOverHTTP3(t *testing.T) {
	w, _ := oscarWorld(t, false)
	d := atWork(t, w)
	resp, err := d.Fetch(d.ctx(), http.MethodGet, w.URL("/oscar/index.jsp"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = edgetest.ReadAll(resp)
	if want := regexp.MustCompile(`^h3=":\d+"; ma=\d+$`); !want.MatchString(resp.Header.Get("Alt-Svc")) {
		t.Errorf("an answer over TCP offers %q", resp.Header.Get("Alt-Svc"))
	}
	tr := overHTTP3(t, w)
	d.Client.Transport = tr
	note := "seen over HTTP/3"
	d.submit("/oscar/CaseManagementEntry.do", url.Values{"method": {"save"}, "demographicNo": {"1"}, "caseNote_note": {note}})
	if chart := d.open("/oscar/casemgmt/forward.jsp?demographicNo=1"); !strings.Contains(chart, note) {
		t.Errorf("the saved note is not in the chart:\n%.2000s", chart)
	}
	if got, want, err := d.upload(24 << 20); err != nil || got != want {
		t.Errorf("upload: application got %s, sent %s, %v", got, want, err)
	}
	for _, query := range []string{"bytes=31457280", "bytes=9000000&chunked=1"} {
		if got, want := d.download(query); got != want {
			t.Errorf("download %s: digest %s, want %s", query, got, want)
		}
	}
	http3Refusals(t, w, d, tr)
	resp, err = http.Get(w.Loopback(w.Edge) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := edgetest.ReadAll(resp); err != nil || !regexp.MustCompile(`sallyport_edge_requests_total\{version="3"\} [1-9]`).MatchString(text) {
		t.Errorf("no request over HTTP/3 is counted, %v", err)
	}

	resp, err = d.Navigate(context.Background(), w.URL("/oscar/servlet/BackupDownload?bytes=1000000000000"))
	if err != nil || resp.ProtoMajor != 3 {
		t.Fatalf("download: %v, %v", resp, err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	cut := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		cut <- err
	}()
	w.Admin("session", "revoke", regexp.MustCompile(`ses_[0-9a-f-]+`).FindString(w.Admin("session", "list")))
	select {
	case err := <-cut:
		if err == nil {
			t.Error("the cut download looked whole")
		}
	case <-time.After(within):
		t.Errorf("a revoked session still downloads after %s", within)
	}
}

// http3Refusals asks for what is refused over TCP as well, and for what HTTP/3 alone could carry.
func http3Refusals(t *testing.T, w *edgetest.World, d doctor, tr *http3.Transport) {
	t.Helper()
	for name, c := range map[string]struct {
		method, path, proto string
		header              http.Header
		status              int
	}{
		"WebSocket":       {http.MethodConnect, "/oscar/socket/echo", "websocket", nil, http.StatusNotImplemented},
		"TRACE":           {http.MethodTrace, "/oscar/index.jsp", "", nil, http.StatusMethodNotAllowed},
		"two readings":    {http.MethodGet, "/oscar/a%2fb", "", nil, http.StatusBadRequest},
		"underscore":      {http.MethodGet, "/oscar/index.jsp", "", http.Header{"X_forwarded_for": {"1"}}, http.StatusBadRequest},
		"method override": {http.MethodGet, "/oscar/index.jsp?_method=DELETE", "", nil, http.StatusBadRequest},
		"long head":       {http.MethodGet, "/oscar/index.jsp", "", http.Header{"X-Long": {strings.Repeat("x", 33<<10)}}, http.StatusRequestHeaderFieldsTooLarge},
		"longer head":     {http.MethodGet, "/oscar/index.jsp", "", http.Header{"X-Long": {strings.Repeat("x", 64<<10)}}, http.StatusRequestHeaderFieldsTooLarge},
	} {
		r, err := http.NewRequestWithContext(d.ctx(), c.method, w.URL(c.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Header = c.header; c.header == nil {
			r.Header = http.Header{}
		}
		if c.proto != "" {
			r.Proto = c.proto
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, _ = edgetest.ReadAll(resp)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, resp.Status, c.status)
		}
	}
	// A connection for one host does not serve another, and the edge's own host and strangers' have no certificate here.
	other, err := http.NewRequestWithContext(d.ctx(), http.MethodGet, w.URL("/oscar/index.jsp"), nil)
	if err != nil {
		t.Fatal(err)
	}
	other.Host = "signin.maple.localhost"
	if resp, err := tr.RoundTrip(other); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host on this connection: %v, %v", resp, err)
	}
	for _, host := range []string{"edge.localhost", "stranger.example", ""} {
		conf := &tls.Config{InsecureSkipVerify: true, ServerName: host, NextProtos: []string{http3.NextProtoH3}}
		if c, err := quic.DialAddr(d.ctx(), w.EdgeAddr(), conf, nil); err == nil {
			_ = c.CloseWithError(0, "")
			t.Errorf("%q has a certificate over HTTP/3", host)
		}
	}
}

// The whole of it in a real browser over HTTP/3; its WebSockets go over TCP by themselves.
func TestADoctorInABrowserOverHTTP3(t *testing.T) {
	w, _ := oscarWorld(t, false)
	host := func(u string) string { return strings.TrimPrefix(u, "https://") }
	b := edgetest.StartHTTP3Browser(t, filepath.Join(w.Dir, "edge", "ca", "ca.pem"), host(w.URL("")), host(w.HostURL("signin.maple.localhost", "")))
	signInWithBrowser(t, w, b)
	inBrowser(t, b, "the application's log-in",
		chromedp.SendKeys(`input[name=username]`, "oscardoc"), chromedp.SendKeys(`input[name=password]`, "mac2002"),
		chromedp.SendKeys(`input[name=pin]`, "1117"), chromedp.Click(`button[type=submit]`), chromedp.WaitVisible(`table`))
	var protocol, echoed string
	inBrowser(t, b, "the protocol", chromedp.Evaluate(`performance.getEntriesByType("navigation")[0].nextHopProtocol`, &protocol))
	if protocol != "h3" {
		t.Errorf("the page came over %q", protocol)
	}
	inBrowser(t, b, "a WebSocket", chromedp.Evaluate(`new Promise((done) => {
		const s = new WebSocket("wss://" + location.host + "/oscar/socket/echo");
		s.onopen = () => s.send("hello"); s.onmessage = (m) => done(String(m.data)); s.onerror = () => done("error") })`, &echoed, chromedp.EvalAsValue, awaitPromise))
	if !strings.Contains(echoed, "hello") {
		t.Errorf("the WebSocket of a page that came over HTTP/3: %q", echoed)
	}
	browserUpload(t, w, b)
	browserDownload(t, w, b)
	inBrowser(t, b, "the protocol", chromedp.Navigate(w.URL("/oscar/provider/providercontrol.jsp?displaymode=day")),
		chromedp.Evaluate(`performance.getEntriesByType("navigation")[0].nextHopProtocol`, &protocol))
	if protocol != "h3" {
		t.Errorf("after large bodies the page came over %q", protocol)
	}
}
