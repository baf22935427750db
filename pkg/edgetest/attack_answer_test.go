package edgetest

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// over asks for a target over both protocols.
func (k *knocker) over(target string, check func(t *testing.T, a answer, err error)) {
	k.t.Helper()
	k.t.Run(target+" over HTTP1", func(t *testing.T) {
		a, err := k.on(t).send(k.get(target, ""))
		check(t, a, err)
	})
	k.t.Run(target+" over HTTP2", func(t *testing.T) {
		a, err := k.on(t).wire2().ask(k.usual(http.MethodGet, target))
		check(t, a, err)
	})
}

// What the application answers arrives as it is where it may, and not at all where it would lead out of the clinic, stand in
// for us, or look whole when it is not. Attack cases A14, B14, J2.
func TestAnswersArriveAsTheyMay(t *testing.T) {
	k := newKnocker(t, Options{})
	public := "https://" + k.host() + "/oscar/index.jsp?from=redirect"
	for kind, want := range map[string]string{
		"relative": "/oscar/index.jsp?from=redirect", "absolute": public, "private": public, "localhost": public,
		"outside-context": "/loginfailed.jsp", "foreign": "https://elsewhere.example/", "slashes": "",
	} {
		k.over("/oscar/wire/redirect?kind="+kind, func(t *testing.T, a answer, err error) {
			got := a.header.Get("Location")
			switch {
			case err != nil:
				t.Error(err)
			case want == "" && (a.status != http.StatusBadGateway || got != ""):
				t.Errorf("%d to %q, want it blocked", a.status, got)
			case want != "" && (a.status != http.StatusFound || got != want):
				t.Errorf("%d to %q, want %q", a.status, got, want)
			}
		})
	}
	k.over("/oscar/wire/cookies", func(t *testing.T, a answer, err error) {
		lines := a.header["Set-Cookie"]
		if err != nil || len(lines) != 4 {
			t.Errorf("%q, %v", lines, err)
		}
		for i, line := range lines {
			if strings.Contains(strings.ToLower(line), "sallyport") || strings.Contains(line, "Domain") || !strings.Contains(line, "Secure") {
				t.Errorf("%q", line)
			}
			if name := []string{"first", "second", "third", "wide"}[i]; !strings.HasPrefix(line, name+"=1") {
				t.Errorf("%q in place %d", line, i)
			}
		}
	})
	k.over("/oscar/wire/gzip", func(t *testing.T, a answer, err error) {
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil || a.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%v, %v", a.header, err)
		}
		if text, err := io.ReadAll(z); err != nil || string(text) != strings.Repeat("packed by the origin\n", 1000) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
	k.over("/oscar/wire/trailers", func(t *testing.T, a answer, err error) {
		if err != nil || a.body != "a body with a trailer\n" || a.trailer.Get("X-Checksum") != "c0ffee" {
			t.Errorf("%q, %v, %v", a.body, a.trailer, err)
		}
	})
	k.over("/oscar/wire/hints", func(t *testing.T, a answer, err error) {
		if err != nil || a.body != "after the hints\n" || !slices.Equal(a.early, []int{http.StatusEarlyHints}) {
			t.Errorf("%q, %v, %v", a.body, a.early, err)
		}
	})
	for _, query := range []string{"bytes=100000&after=50000", "bytes=1&after=50000&chunked=1"} {
		k.over("/oscar/wire/broken?"+query, func(t *testing.T, a answer, err error) {
			if err == nil && a.broken == nil && a.status < 500 {
				t.Errorf("half an answer looks whole: %d, %d bytes", a.status, len(a.body))
			}
		})
	}
	t.Run("nothing of the edge's software", func(t *testing.T) {
		for _, target := range []string{"/oscar/echo", "/oscar/wire/status?code=500", "/oscar/html2pdf", "/oscar/a;b"} {
			a := k.on(t).must(k.get(target, ""))
			for _, name := range []string{"Server", "X-Powered-By", "Via"} {
				if got := a.header.Get(name); got != "" {
					t.Errorf("%s: %s: %s", target, name, got)
				}
			}
			for _, leak := range []string{"goroutine", ".go:", "Apache Tomcat", "127.0.0.1:", k.token} {
				if a.status >= 400 && strings.Contains(a.body, leak) {
					t.Errorf("%s shows %s", target, leak)
				}
			}
		}
	})
}

// rogue answers with the bytes that stand for a path, and closes where they say so.
func rogue(t *testing.T, answers map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					text, ok := answers[req.URL.Path]
					if !ok {
						text = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
					}
					if _, err := io.WriteString(conn, text); err != nil || ok {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// An application that answers with rubbish costs the one request its answer: no bytes of its choice get into the head, the
// next request gets its own answer, and the link lives. Attack cases B14, B21.
func TestRubbishFromTheApplication(t *testing.T) {
	const ok, end = "HTTP/1.1 200 OK\r\n", "Content-Length: 4\r\n\r\nbody"
	answers := map[string]string{
		"/cr-in-value":     ok + "X-A: b\rSet-Cookie: planted=1\r\n" + end,
		"/nul-in-value":    ok + "X-A: b\x00c\r\n" + end,
		"/nameless":        ok + ": b\r\n" + end,
		"/blank-in-name":   ok + "X A: b\r\n" + end,
		"/no-colon":        ok + "nonsense\r\n" + end,
		"/long-value":      ok + "X-A: " + strings.Repeat("b", 80<<10) + "\r\n" + end,
		"/many-fields":     ok + strings.Repeat("X-A: "+strings.Repeat("b", 90)+"\r\n", 1000) + end,
		"/interim-flood":   strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", 5000) + ok + end,
		"/interim-long":    "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("b", 80<<10) + "\r\n\r\n" + ok + end,
		"/no-http":         "SSH-2.0-OpenSSH_9.2\r\n",
		"/nothing":         "",
		"/half-a-head":     "HTTP/1.1 200 OK\r\nX-A: b",
		"/status-text":     "HTTP/1.1 abc OK\r\n" + end,
		"/status-long":     "HTTP/1.1 2000 OK\r\n" + end,
		"/two-lengths":     ok + "Content-Length: 3\r\n" + end,
		"/negative-length": ok + "Content-Length: -4\r\n\r\nbody",
		"/odd-coding":      ok + "Transfer-Encoding: xchunked\r\n\r\nbody",
		"/two-codings":     ok + "Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"/unasked-upgrade": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"/double-slash":    "HTTP/1.1 302 Found\r\nLocation: //elsewhere.example/\r\n" + end,
		"/backslash":       "HTTP/1.1 302 Found\r\nLocation: /\\elsewhere.example/\r\n" + end,
		"/script":          "HTTP/1.1 302 Found\r\nLocation: javascript:alert(1)\r\n" + end,
		"/refresh":         ok + "Refresh: 0; url=//elsewhere.example/\r\n" + end,
	}
	torn := map[string]string{
		"/short":        ok + "Content-Length: 400\r\n\r\nbody",
		"/bad-chunk":    ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzz\r\n",
		"/chunk-cut":    ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n400\r\nx",
		"/trailer-cut":  ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n4\r\nbody\r\n0\r\nX-A: b",
		"/chunk-overun": ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nbody\r\n0\r\n\r\n",
	}
	all := map[string]string{}
	for _, m := range []map[string]string{answers, torn} {
		for path, text := range m {
			all[path] = text
		}
	}
	const headers = "/fields"
	all[headers] = ok + "Set-Cookie: __Host-Http-sallyport=planted; Path=/; Secure\r\nSet-Cookie: __HOST-HTTP-SALLYPORT-AT=planted; Path=/; Secure\r\n" +
		"set-cookie: __secure-Sallyport=planted\r\nSet-Cookie: good=1\r\nServer: secret/1.2\r\nX-Powered-By: secret\r\nAlt-Svc: h3=\":1\"\r\n" +
		"Strict-Transport-Security: max-age=0\r\nService-Worker-Allowed: /\r\nClear-Site-Data: \"*\"\r\nSallyport-Assertion: planted\r\n" +
		"Connection: X-Hop\r\nX-Hop: planted\r\nKeep-Alive: planted\r\n" + end
	k := newKnocker(t, Options{Origin: rogue(t, all), Preset: "none"})
	link := func() string { return k.w.Admin("connector", "list", "--output", "json") }
	generation := func(list string) string {
		_, rest, _ := strings.Cut(list, `"generation"`)
		number, _, _ := strings.Cut(rest, ",")
		return number
	}
	before := generation(link())
	next := func(t *testing.T) {
		t.Helper()
		if a := k.on(t).must(k.get("/next", "")); a.status != http.StatusOK || a.body != "/next" {
			t.Errorf("the next request got %d %q", a.status, a.body)
		}
	}
	for path := range answers {
		k.over(path, func(t *testing.T, a answer, err error) {
			if err != nil || a.status != http.StatusBadGateway || strings.Contains(a.body, "body\n") || len(a.header["Set-Cookie"]) > 0 || len(a.early) > 100 {
				t.Errorf("%d, %d early, %v: %.300s", a.status, len(a.early), err, a.body)
			}
			next(t)
		})
	}
	for path := range torn {
		k.over(path, func(t *testing.T, a answer, err error) {
			if err == nil && a.broken == nil && a.status < 500 {
				t.Errorf("looks whole: %d %q", a.status, a.body)
			}
			if errors.Is(err, errGoAway) {
				t.Error(err)
			}
			next(t)
		})
	}
	k.over(headers, func(t *testing.T, a answer, err error) {
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("%d, %v", a.status, err)
		}
		if got := a.header["Set-Cookie"]; len(got) != 1 || !strings.HasPrefix(got[0], "good=1") {
			t.Errorf("Set-Cookie: %q", got)
		}
		ours := fmt.Sprintf(`h3=":%d"; ma=86400`, k.w.Port) // the edge's own, never the application's
		for name, values := range a.header {
			for _, v := range values {
				if strings.Contains(v, "planted") || strings.Contains(v, "secret") || name == "Alt-Svc" && v != ours || name == "Service-Worker-Allowed" ||
					name == "Clear-Site-Data" || name == "Strict-Transport-Security" && !strings.Contains(v, "max-age=31536000") {
					t.Errorf("%s: %s", name, v)
				}
			}
		}
	})
	if after := generation(link()); after != before || before == "" {
		t.Errorf("the link was made anew: generation %s, then %s", before, after)
	}
}
