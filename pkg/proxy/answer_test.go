package proxy_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnswerFields(t *testing.T) {
	w := newWay(t, rawOrigin(t, func(c net.Conn, _ *bufio.Reader, _ string) {
		say(c, "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n"+
			"Set-Cookie: JSESSIONID=A1; Path=/oscar; HttpOnly\r\n"+
			"Set-Cookie: __Host-Http-sallyport=; Max-Age=0; Path=/\r\n"+
			"Set-Cookie: =__Host-Http-sallyport-at=evil\r\n"+
			"Set-Cookie: b=2; Domain=.maple.example; secure; SameSite=Strict; Expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n"+
			"Set-Cookie: a=1\r\n"+
			"Service-Worker-Allowed: /\r\nSallyport-Assertion: x\r\nServer: Tomcat/1\r\nAlt-Svc: h3=\":1\"\r\n"+
			"Strict-Transport-Security: max-age=0\r\nClear-Site-Data: \"cache\", \"cookies\"\r\nX-Frame-Options: SAMEORIGIN\r\n\r\nok")
	}), wayConfig{})
	resp, _ := w.get("/oscar/x")
	h := resp.Header
	h.Del("Date")
	want := http.Header{
		"Content-Length": {"2"}, "X-Frame-Options": {"SAMEORIGIN"}, "Clear-Site-Data": {`"cache"`},
		"Strict-Transport-Security": {"max-age=31536000"}, "X-Request-Id": {"REQUEST1"},
		"Set-Cookie": {
			"JSESSIONID=A1; Path=/oscar; HttpOnly; Secure",
			"b=2; secure; SameSite=Strict; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
			"a=1; Secure",
		},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("fields at the browser (-want +got):\n%s", diff)
	}
}

func TestRedirectsNeverNameTheInside(t *testing.T) {
	const public = "https://" + publicHost + ":8443"
	location := ""
	url := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{location}
		w.WriteHeader(http.StatusFound)
	})
	w := newWay(t, url, wayConfig{})
	for _, c := range []struct{ from, want string }{
		{"/oscar/provider/x.jsp?a=%zz", "/oscar/provider/x.jsp?a=%zz"},
		{"http://10.0.0.5:8080/oscar?x=[1]", public + "/oscar?x=[1]"},
		{url + "/oscar/y", public + "/oscar/y"},
		{"http://" + publicHost + "/oscar", public + "/oscar"},
		{"https://" + publicHost + ":8080", public + "/"},
		{"http://localhost/z", public + "/z"},
		{"//tomcat7/z", public + "/z"},
		{"https://login.example.com/cb?code=1", "https://login.example.com/cb?code=1"},
		{"//evil.example.com/x", "502"},
		{`/\evil.example.com`, "502"},
		{"http:evil.example.com", "502"},
		{"javascript:alert(1)", "502"},
	} {
		location = c.from
		resp, _ := w.get("/oscar/x")
		got := resp.Header.Get("Location")
		if resp.StatusCode == http.StatusBadGateway {
			got = "502"
		}
		if got != c.want {
			t.Errorf("Location %q became %q, want %q", c.from, got, c.want)
		}
	}
}

func TestHeadRangeAndBodylessAnswers(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 5000)
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oscar/none":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, r, "scan.pdf", time.Time{}, bytes.NewReader(content))
		}
	}), wayConfig{})

	head := w.do(w.request(http.MethodHead, "/oscar/scan.pdf", nil))
	if head.StatusCode != 200 || head.ContentLength != int64(len(content)) || readAll(t, head.Body) != "" {
		t.Errorf("HEAD: %d, length %d", head.StatusCode, head.ContentLength)
	}
	r := w.request(http.MethodGet, "/oscar/scan.pdf", nil)
	r.Header.Set("Range", "bytes=10-14")
	part := w.do(r)
	if got := readAll(t, part.Body); part.StatusCode != http.StatusPartialContent || got != "01234" {
		t.Errorf("Range: %d %q", part.StatusCode, got)
	}
	r = w.request(http.MethodGet, "/oscar/scan.pdf", nil)
	r.Header.Set("If-None-Match", `"v1"`)
	if same := w.do(r); same.StatusCode != http.StatusNotModified || same.Header.Get("Etag") != `"v1"` {
		t.Errorf("If-None-Match: %d", same.StatusCode)
	}
	none, body := w.get("/oscar/none")
	if none.StatusCode != http.StatusNoContent || body != "" || none.Header.Get("Content-Length") != "" {
		t.Errorf("204: %d %q", none.StatusCode, body)
	}
}

func TestCompressedBodyStaysAsItIs(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte("chart "), 1000))
	_ = z.Close()
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}), wayConfig{})
	r := w.request(http.MethodGet, "/oscar/x", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	resp := w.do(r)
	if got := readAll(t, resp.Body); got != packed.String() || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("status %d: %d bytes, want the %d packed ones", resp.StatusCode, len(got), packed.Len())
	}
	plain, _ := w.get("/oscar/x")
	if plain.StatusCode != http.StatusNotAcceptable {
		t.Error("Accept-Encoding was added on the way")
	}
}

func TestTrailersBothWays(t *testing.T) {
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Digest, X-Seen")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Digest", "abc")
		w.Header().Set("X-Seen", r.Trailer.Get("X-Sum"))
	}), wayConfig{})
	r := w.request(http.MethodPost, "/oscar/x", nil)
	sum := http.Header{"X-Sum": nil, "X-Forwarded-For": nil}
	r.Body, r.ContentLength, r.Trailer = io.NopCloser(&lateTrailer{strings.NewReader("hello"), sum}), -1, sum
	resp := w.do(r)
	body := readAll(t, resp.Body)
	if body != "hello" || resp.Trailer.Get("X-Digest") != "abc" || resp.Trailer.Get("X-Seen") != "42" {
		t.Errorf("body %q, trailer %v", body, resp.Trailer)
	}
}

// lateTrailer sets the trailer's values once the body is over.
type lateTrailer struct {
	io.Reader
	h http.Header
}

func (l *lateTrailer) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		l.h["X-Sum"] = []string{"42"}
		l.h["X-Forwarded-For"] = []string{"127.0.0.1"}
	}
	return n, err
}

func TestEarlyHints(t *testing.T) {
	w := newWay(t, origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</oscar/a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "page")
	}), wayConfig{})
	var hints []string
	r := w.request(http.MethodGet, "/oscar/x", nil)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, http.StatusText(code)+" "+h.Get("Link"))
			return nil
		},
	}))
	resp := w.do(r)
	if body := readAll(t, resp.Body); body != "page" || resp.Header.Get("Link") != "" {
		t.Errorf("final answer: %q, Link %q", body, resp.Header.Get("Link"))
	}
	if diff := cmp.Diff([]string{"Early Hints </oscar/a.css>; rel=preload"}, hints); diff != "" {
		t.Errorf("interim answers (-want +got):\n%s", diff)
	}
}

func TestContinue(t *testing.T) {
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oscar/full" {
			http.Error(w, "no room", http.StatusInsufficientStorage)
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}), wayConfig{})
	t.Run("asked for once", func(t *testing.T) {
		c, r := w.raw()
		say(c, "POST /oscar/x HTTP/1.1\r\nHost: "+publicHost+"\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		line, _ := r.ReadString('\n')
		blank, _ := r.ReadString('\n')
		if line != "HTTP/1.1 100 Continue\r\n" || blank != "\r\n" {
			t.Fatalf("got %q %q before the body", line, blank)
		}
		say(c, "hello")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); resp.StatusCode != 200 || got != "hello" {
			t.Errorf("%d %q", resp.StatusCode, got)
		}
	})
	t.Run("refused without a body", func(t *testing.T) {
		c, r := w.raw()
		say(c, "POST /oscar/full HTTP/1.1\r\nHost: "+publicHost+"\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusInsufficientStorage {
			t.Errorf("status %d, want 507 without a 100 before it", resp.StatusCode)
		}
	})
	t.Run("without a body", func(t *testing.T) {
		c, r := w.raw()
		say(c, "GET /oscar/x HTTP/1.1\r\nHost: "+publicHost+"\r\nExpect: 100-continue\r\n\r\n")
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v %v", resp, err)
		}
	})
}

func TestStreamWithoutLengthArrivesAsItIsMade(t *testing.T) {
	goOn := make(chan struct{})
	w := newWay(t, origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "second\n")
	}), wayConfig{})
	resp := w.do(w.request(http.MethodGet, "/oscar/events", nil))
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("%q %v", line, err)
	}
	close(goOn)
	if line, err := r.ReadString('\n'); err != nil || line != "second\n" {
		t.Fatalf("%q %v", line, err)
	}
}

func TestOverHTTP2(t *testing.T) {
	w := newWay(t, origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Digest")
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+" "+string(b))
		w.Header().Set("X-Digest", "abc")
	}), wayConfig{http2: true})
	resp := w.do(w.request(http.MethodPost, "/oscar/x", struct{ io.Reader }{strings.NewReader("hello")}))
	if got := readAll(t, resp.Body); resp.ProtoMajor != 2 || got != "HTTP/1.1 hello" || resp.Trailer.Get("X-Digest") != "abc" {
		t.Errorf("%s %q %v", resp.Proto, got, resp.Trailer)
	}
}
