package guard_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
)

const (
	host  = "oscar.maple.example"
	other = "oscar.cedar.example"
)

// front is a listener as the edge sets it up, in front of a handler that tells what it was asked.
type front struct {
	addr  string
	roots *x509.CertPool
}

func newFront(t *testing.T) *front {
	t.Helper()
	dir := t.TempDir()
	if err := certs.InitLocalCA(dir); err != nil {
		t.Fatal(err)
	}
	m, err := certs.New(certs.Config{LocalCA: dir, HostAllowed: func(h string) bool { return h == host || h == other }})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	f := &front{roots: x509.NewCertPool()}
	f.roots.AppendCertsFromPEM(pem)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	s := &http.Server{Handler: guard.Pace(http.HandlerFunc(tell)), TLSConfig: m.TLSConfig()}
	guard.Server(s)
	limits := guard.NewLimits(guard.LimitConfig{}, nil, nil)
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(limits.Listener(ln), "", "") }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return f
}

// tell checks as the edge does and answers with what policy, record and origin would see.
func tell(w http.ResponseWriter, r *http.Request) {
	refusal := guard.Check(r)
	seen := ""
	if refusal == nil {
		seen, refusal = guard.Host(r)
	}
	if refusal != nil {
		if refusal.Close {
			w.Header().Set("Connection", "close")
		}
		http.Error(w, refusal.Reason, refusal.Status)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var names []string
	for _, field := range hop.RequestFields(r.Header) {
		names = append(names, field.Name+"="+field.Value)
	}
	slices.Sort(names)
	fmt.Fprintf(w, "%s %s %s %q %q trailers=%d", r.Method, seen, r.RequestURI, body, names, len(hop.Trailer(r.Trailer)))
}

func (f *front) dial(t *testing.T, serverName string, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: f.roots, ServerName: serverName, NextProtos: protocols}}
	c, err := d.DialContext(t.Context(), "tcp", f.addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*tls.Conn), nil
}

// say writes raw bytes on a fresh connection and returns the answers that come back.
func (f *front) say(t *testing.T, serverName, raw string) (answers []string) {
	t.Helper()
	c, err := f.dial(t, serverName, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return answers
		}
		answers = append(answers, strconv.Itoa(res.StatusCode)+" "+string(body))
		if res.Close {
			return answers
		}
	}
}

const (
	head = "POST /x HTTP/1.1\r\nHost: " + host + "\r\n"
	last = "GET /last HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
)

// TestFraming is attack cases B1, B3, B4, B8, B13 on HTTP/1.1: every request has one reading or none.
func TestFraming(t *testing.T) {
	f := newFront(t)
	for name, c := range map[string]struct {
		raw  string
		want []string // beginnings of the answers
	}{
		"length and chunked: chunked counts": {
			head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + last,
			[]string{`200 POST ` + host + ` /x "ab" []`, `200 GET ` + host + ` /last`},
		},
		"two lengths":              {head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"one length said twice":    {head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab" + last, []string{`200 POST ` + host + ` /x "ab"`, "200 GET"}},
		"signed length":            {head + "Content-Length: +2\r\n\r\nab", []string{"400"}},
		"xchunked":                 {head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []string{"501"}},
		"vertical tab":             {head + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", []string{"400"}},
		"chunked, identity":        {head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", []string{"501"}},
		"chunked twice":            {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{"501"}},
		"blank before colon":       {head + "Content-Length : 2\r\n\r\nab", []string{"400"}},
		"blank in a name":          {head + "X Y: 2\r\n\r\n", []string{"400"}},
		"folded line":              {head + "X-A: a\r\n b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", []string{`200 POST ` + host + ` /x "" ["X-A=a b"]`}},
		"zero byte":                {head + "X-A: a\x00b\r\n\r\n", []string{"400"}},
		"lone CR":                  {head + "X-A: a\rb\r\n\r\n", []string{"400"}},
		"chunk size beyond 64 bit": {head + "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n", []string{"400"}},
		"two hosts":                {head + "Host: " + host + "\r\n\r\n", []string{"400"}},
		"no host":                  {"GET / HTTP/1.1\r\n\r\n", []string{"400"}},
		"HTTP/1.0":                 {"GET / HTTP/1.0\r\nHost: " + host + "\r\n\r\n", []string{"505"}},
		"trace":                    {"TRACE / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", []string{"405"}},
		"connect":                  {"CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n\r\n", []string{"405"}},
		"preface":                  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"4"}},
		"lower-case method":        {"get / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", []string{"405"}},
		"options for all":          {"OPTIONS * HTTP/1.1\r\nHost: " + host + "\r\n\r\n", []string{"400 target-form"}},
		"absolute form":            {"GET https://" + host + "/x HTTP/1.1\r\nHost: " + other + "\r\n\r\n", []string{"400 target-form"}},
		"underscore":               {head + "X_Oscar_User: a\r\nConnection: close\r\n\r\n", []string{"400 header-name"}},
		"upgrade to h2c": {
			"GET /x HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + last,
			[]string{`200 GET ` + host + ` /x "" []`, "200 GET"},
		},
		"expectation without a body": {"GET /x HTTP/1.1\r\nHost: " + host + "\r\nExpect: 100-continue\r\n\r\n" + last, []string{"200 GET", "200 GET"}},
		"other expectation":          {head + "Expect: 200-ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", []string{"417"}},
		"trailers": {
			head + "Trailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\r\nX-Forwarded-For: 127.0.0.1\r\nCookie: a=1\r\n\r\n" + last,
			[]string{`200 POST ` + host + ` /x "a" [] trailers=1`, "200 GET"},
		},
		"trailer name, announced": {head + "Trailer: X_A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX_A: 1\r\n\r\n", []string{"400 trailer-name"}},
		"trailer name, hidden":    {head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\nX_A: 1\r\n\r\n", []string{"400 " + guard.CodeRequest + ": trailer-name"}},
		"a thousand headers":      {head + "Connection: close\r\n" + strings.Repeat("A: b\r\n", 1000) + "\r\n", []string{"431 header-count"}},
		"a megabyte of headers":   {head + strings.Repeat("A: b\r\n", 20_000) + "\r\n", []string{"431"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.say(t, host, c.raw)
			if len(got) != len(c.want) {
				t.Fatalf("%d answers, want %d: %q", len(got), len(c.want), got)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("answer %d: %q, want %q…", i, got[i], c.want[i])
				}
			}
		})
	}
}

// TestHostAndServerName is attack cases B12 and D2.
func TestHostAndServerName(t *testing.T) {
	f := newFront(t)
	for raw, want := range map[string]string{
		host: "200", strings.ToUpper(host): "200", host + ".": "200", host + ":8443": "200", other: "421", "unknown.example": "421",
		"[::1": "400", "[::1]": "400", "127.0.0.1": "400", "a@" + host: "400", "xn--example-.com": "400", "": "400",
	} {
		got := f.say(t, host, "GET / HTTP/1.1\r\nHost: "+raw+"\r\nConnection: close\r\n\r\n")
		if len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("Host %q: %q, want %s", raw, got, want)
		}
	}
	for _, name := range []string{"", "unknown.example"} {
		_, err := f.dial(t, name, "http/1.1")
		if err == nil || !strings.Contains(err.Error(), "remote error: tls: unrecognized name") {
			t.Errorf("server name %q: %v, want the alert unrecognized_name", name, err)
		}
	}
}

// TestHTTP2Forms sends heads that no client of net/http would.
func TestHTTP2Forms(t *testing.T) {
	f := newFront(t)
	for name, c := range map[string]struct {
		fields [][2]string
		want   string
	}{
		"plain":            {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}}, "200"},
		"another host":     {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", other}, {":path", "/x"}}, "421"},
		"host beside":      {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}, {"host", other}}, "400"},
		"underscore":       {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}, {"x_oscar_user", "a"}}, "400"},
		"trace":            {[][2]string{{":method", "TRACE"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}}, "405"},
		"lower case":       {[][2]string{{":method", "get"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}}, "405"},
		"no host":          {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/x"}}, "400"},
		"crumbs of cookie": {[][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/x"}, {"cookie", "a=1"}, {"cookie", "b=2"}}, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := f.status2(t, c.fields); got != c.want {
				t.Errorf("status %s, want %s", got, c.want)
			}
		})
	}
}

// status2 sends one head over HTTP/2 and returns the answer's status, or "reset".
func (f *front) status2(t *testing.T, fields [][2]string) string {
	t.Helper()
	c, err := f.dial(t, host, "h2")
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, field := range fields {
		_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_, _ = io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.GoAwayFrame:
			// One without an error only says that the connection ends after the answer, and may come before it.
			if frame.ErrCode != http2.ErrCodeNo {
				return "reset"
			}
		}
	}
}

// TestPoolStaysClean sends odd methods between a thousand good requests on kept connections (attack case B3).
func TestPoolStaysClean(t *testing.T) {
	f := newFront(t)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: f.roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", f.addr)
		},
	}
	defer transport.CloseIdleConnections()
	for i := range 1000 {
		if i%100 == 50 {
			f.say(t, host, "TRACE / HTTP/1.1\r\nHost: "+host+"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("https://%s/%d", host, i), nil)
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if want := fmt.Sprintf("GET %s /%d ", host, i); err != nil || !strings.HasPrefix(string(body), want) {
			t.Fatalf("request %d: %q, %v", i, body, err)
		}
	}
}
