package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// echo answers with the head that arrived and the length of the body.
func echo(t testing.TB) string {
	return rawOrigin(t, func(c net.Conn, _ *bufio.Reader, head string) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
	})
}

func fieldsOf(head string) (line string, fields map[string][]string) {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n"), "\r\n")
	fields = map[string][]string{}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		fields[strings.ToLower(name)] = append(fields[strings.ToLower(name)], value)
	}
	return lines[0], fields
}

func TestTargetReachesOriginByteForByte(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	for _, target := range []string{
		"/oscar/index.jsp",
		"/oscar/a%20b/caf%C3%A9.do?x=1",
		"/oscar/x?",
		"/oscar/x?includes[]=allergies&demo=1;demo=2&bad=%zz&%64emo=%20+",
		"/oscar/p(1)!$&'*+,=:@-._~/q?a=/?b",
	} {
		_, body := w.get(target)
		line, _ := fieldsOf(body)
		if want := "GET " + target + " HTTP/1.1"; line != want {
			t.Errorf("origin read %q, want %q", line, want)
		}
	}
}

func TestOnlyOurFieldsSpeakForUs(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	c, r := w.raw()
	say(c, "GET /oscar/echo HTTP/1.1\r\nHost: "+publicHost+"\r\n"+
		"Connection: close, X-Named, Sallyport-Assertion, X-Forwarded-For, X-Request-Id\r\n"+
		"X-Named: 1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-proto: http\r\n"+
		"Forwarded: for=127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nTrue-Client-IP: 127.0.0.1\r\nCF-Connecting-IP: 127.0.0.1\r\n"+
		"X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-HTTP-Method-Override: DELETE\r\nX-Forwarded-Uri: /admin\r\n"+
		"X-Oscar-User: admin\r\nSallyport-Assertion: forged\r\nSallyport-Access-Token: secret\r\nClient-Cert: x\r\n"+
		"X-Request-Id: forged\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nTE: trailers\r\n"+
		"Keep-Alive: timeout=5\r\nX_Oscar_User: admin\r\nX.Oscar.User: admin\r\nAccept-Encoding: br\r\nReferer: https://a/\r\n"+
		"Authorization: OAuth x\r\nX-Requested-With: OWASP CSRFGuard Project\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, got := fieldsOf(readAll(t, resp.Body))
	want := map[string][]string{
		"host": {publicHost + ":8443"}, "x-forwarded-for": {"203.0.113.7"}, "x-forwarded-proto": {"https"},
		"x-request-id": {"REQUEST1"}, "sallyport-assertion": {"for-origin"}, "accept-encoding": {"br"},
		"referer": {"https://a/"}, "authorization": {"OAuth x"}, "x-requested-with": {"OWASP CSRFGuard Project"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields at the origin (-want +got):\n%s", diff)
	}
}

func TestOurCookiesStayAtTheEdge(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	for _, c := range []struct{ name, sent, want string }{
		{"among others", `JSESSIONID=A1; __Host-Http-sallyport=ref; theme="a b"; __Host-Http-sallyport-at=jwt; x=1`, `JSESSIONID=A1; theme="a b"; x=1`},
		{"none of ours", `b=2;a=1;  c="x; y"`, `b=2;a=1;  c="x; y"`},
		{"only ours", `__Host-Http-sallyport=ref`, ``},
		{"nameless", `=__Host-Http-sallyport=x; a=1`, `a=1`},
		{"other case", `__HOST-sallyport=x;a=1`, `a=1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.request(http.MethodGet, "/oscar/echo", nil)
			r.Header.Set("Cookie", c.sent)
			_, got := fieldsOf(readAll(t, w.do(r).Body))
			if cookie := strings.Join(got["cookie"], "|"); cookie != c.want {
				t.Errorf("origin got Cookie %q, want %q", cookie, c.want)
			}
		})
	}
}

func TestBodyFramingIsStatedAnew(t *testing.T) {
	url := rawOrigin(t, func(c net.Conn, r *bufio.Reader, head string) {
		_, f := fieldsOf(head)
		body := ""
		switch {
		case f["content-length"] != nil:
			b := make([]byte, len("hello world"))
			_, _ = io.ReadFull(r, b)
			body = "length " + strings.Join(f["content-length"], "|") + " " + string(b)
		case f["transfer-encoding"] != nil:
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head+"\r\n"), r)))
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			body = "chunked " + string(b)
		}
		say(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	w := newWay(t, url, wayConfig{})
	known := w.request(http.MethodPost, "/oscar/save.do", strings.NewReader("hello world"))
	if got := readAll(t, w.do(known).Body); got != "length 11 hello world" {
		t.Errorf("known length: origin read %q", got)
	}
	unknown := w.request(http.MethodPost, "/oscar/save.do", struct{ io.Reader }{strings.NewReader("hello world")})
	if got := readAll(t, w.do(unknown).Body); got != "chunked hello world" {
		t.Errorf("unknown length: origin read %q", got)
	}
	if in := w.result().BytesIn; in != 11 {
		t.Errorf("BytesIn = %d, want 11", in)
	}
}

func TestEmptyPostStatesItsLength(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	_, f := fieldsOf(readAll(t, w.do(w.request(http.MethodPost, "/oscar/x.do", http.NoBody)).Body))
	if got := strings.Join(f["content-length"], "|"); got != "0" {
		t.Errorf("Content-Length = %q, want 0", got)
	}
}

// A GET may write at the origin: it must never arrive twice because the first connection died.
func TestRequestIsNotRepeated(t *testing.T) {
	arrived := make(chan string, 16)
	url := rawOrigin(t, func(c net.Conn, r *bufio.Reader, head string) {
		for n := 0; ; n++ {
			line, _ := fieldsOf(head)
			arrived <- line
			if n > 0 {
				return // dies with the second request on a kept connection
			}
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			head = ""
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if l == "\r\n" {
					break
				}
				head += l
			}
		}
	})
	w := newWay(t, url, wayConfig{})
	w.get("/oscar/first")
	r := w.request(http.MethodGet, "/oscar/addstatus", nil)
	r.Header.Set("Idempotency-Key", "k")
	if resp := w.do(r); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d, want 502", resp.StatusCode)
	}
	if got := []string{<-arrived, <-arrived}; got[1] != "GET /oscar/addstatus HTTP/1.1" || len(arrived) != 0 {
		t.Errorf("origin saw %v and %d more", got, len(arrived))
	}
}

func TestHeadBudget(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	page := func(cookie, target string) (*http.Response, string) {
		r := w.request(http.MethodGet, target, nil)
		r.Header.Set("Accept", "text/html")
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		resp := w.do(r)
		return resp, readAll(t, resp.Body)
	}
	if resp, _ := page("a="+strings.Repeat("x", 6000), "/oscar/x"); resp.StatusCode != http.StatusOK {
		t.Errorf("under the budget: status %d", resp.StatusCode)
	}
	resp, body := page("a="+strings.Repeat("x", 7000), "/oscar/x")
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(body, "/.sallyport/clear") {
		t.Errorf("large cookies: status %d; offers to clear them: %t", resp.StatusCode, strings.Contains(body, "/.sallyport/clear"))
	}
	if resp, _ = page("", "/oscar/x?"+strings.Repeat("y", 7000)); resp.StatusCode != http.StatusRequestURITooLong {
		t.Errorf("long target: status %d, want 414", resp.StatusCode)
	}
}

func TestOldProtocolIsRefused(t *testing.T) {
	w := newWay(t, echo(t), wayConfig{})
	c, r := w.raw()
	say(c, "GET /oscar/x HTTP/1.0\r\nHost: "+publicHost+"\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusHTTPVersionNotSupported {
		t.Errorf("status %d, want 505", resp.StatusCode)
	}
}
