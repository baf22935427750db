package edgetest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/session"
)

// What frames a request, says who sent it and where it goes has one reading, or the request is refused.
func TestRequestsWithTwoReadings(t *testing.T) {
	k := newKnocker(t, Options{})
	for name, f := range map[string]func(*knocker){
		"framing": framing, "HTTP2 heads": heads2, "methods": methods, "upgrades": upgrades, "fields of the connection": connectionFields,
		"reserved names": reservedNames, "odd names": oddNames, "overrides": overrides, "hosts": hosts, "server names": serverNames,
		"expect": expect, "two credentials": twoCredentials, "closed doors": closedDoors, "writing by HEAD": writingByHead,
	} {
		t.Run(name, func(t *testing.T) { f(k.on(t)) })
	}
}

// framing sends requests whose end two programs could see in two places. A second request hides in each body; whoever reads
// the body otherwise than we do would run it. Attack case B1.
func framing(k *knocker) {
	const hidden = "GET /oscar/echo/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	refused := map[string]string{
		"two lengths":               k.with("POST", "/oscar/echo", "Content-Length: 3\r\n"+length, hidden),
		"lengths in one line":       k.with("POST", "/oscar/echo", "Content-Length: 3, 3\r\n", "abc"),
		"a signed length":           k.with("POST", "/oscar/echo", "Content-Length: +3\r\n", "abc"),
		"a length in hexadecimal":   k.with("POST", "/oscar/echo", "Content-Length: 0x3\r\n", "abc"),
		"a negative length":         k.with("POST", "/oscar/echo", "Content-Length: -1\r\n", hidden),
		"xchunked":                  k.with("POST", "/oscar/echo", "Transfer-Encoding: xchunked\r\n", chunk),
		"chunked, identity":         k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked, identity\r\n", chunk),
		"identity, chunked":         k.with("POST", "/oscar/echo", "Transfer-Encoding: identity, chunked\r\n", chunk),
		"gzip, chunked":             k.with("POST", "/oscar/echo", "Transfer-Encoding: gzip, chunked\r\n", chunk),
		"chunked twice":             k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk),
		"a vertical tab":            k.with("POST", "/oscar/echo", "Transfer-Encoding: \x0bchunked\r\n", chunk),
		"a blank before the colon":  k.with("POST", "/oscar/echo", "Transfer-Encoding : chunked\r\n"+length, chunk),
		"a folded line":             k.with("POST", "/oscar/echo", "X-A: b\r\n Transfer-Encoding: chunked\r\n"+length+"\x00: x\r\n", chunk),
		"a bare CR in a value":      k.get("/oscar/echo", "X-A: b\rTransfer-Encoding: chunked\r\n"),
		"NUL in a value":            k.get("/oscar/echo", "X-A: b\x00c\r\n"),
		"a line without colon":      k.get("/oscar/echo", "Transfer-Encoding chunked\r\n"),
		"a nameless line":           k.get("/oscar/echo", ": chunked\r\n"),
		"no host":                   "GET /oscar/echo HTTP/1.1\r\nSallyport-Access-Token: " + k.token + "\r\n\r\n",
		"two hosts":                 k.get("/oscar/echo", "Host: other.example\r\n"),
		"HTTP/1.0":                  strings.Replace(k.get("/oscar/echo", ""), "HTTP/1.1", "HTTP/1.0", 1),
		"HTTP/0.9":                  "GET /oscar/echo\r\n",
		"HTTP/3.1":                  strings.Replace(k.get("/oscar/echo", ""), "HTTP/1.1", "HTTP/3.1", 1),
		"a chunk of no size":        k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked\r\n", "zz\r\n"+hidden+"\r\n0\r\n\r\n"),
		"a chunk that overruns":     k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked\r\n", "3\r\n"+hidden+"\r\n0\r\n\r\n"),
		"a chunk beyond all number": k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+hidden+"\r\n0\r\n\r\n"),
	}
	arrived := k.reached(func() {
		for name, request := range refused {
			c := k.wire1(AppHost)
			if _, err := io.WriteString(c, request); err != nil {
				k.t.Errorf("%s: %v", name, err)
				continue
			}
			a, err := c.read(http.MethodPost)
			if err != nil || a.status < 400 {
				k.t.Errorf("%s: %d, %v", name, a.status, err)
			}
			if err == nil && !c.closed() {
				k.t.Errorf("%s: the connection goes on", name)
			}
		}
	})
	for _, target := range arrived {
		if strings.Contains(target, "hidden") {
			k.t.Errorf("a request in the body of another was run: %s", target)
		}
	}
	// An answer that comes before the body is over leaves the rest of the body on the wire.
	for _, target := range []string{"/oscar/html2pdf", "/oscar/a;b", "/oscar/echo?_method=PUT"} {
		arrived = k.reached(func() {
			c := k.wire1(AppHost)
			for _, text := range []string{k.with("POST", target, "Content-Length: 100000\r\n", ""), k.get("/oscar/echo/hidden", "")} {
				if _, err := io.WriteString(c, text); err != nil {
					k.t.Fatal(err)
				}
			}
			if target != "/oscar/html2pdf" { // refused at the edge, where net/http takes in a body of this size first
				_, _ = io.WriteString(c, strings.Repeat("x", 100000-len(k.get("/oscar/echo/hidden", ""))))
			}
			if a, err := c.read(http.MethodPost); err != nil || !a.refused() {
				k.t.Errorf("%s: %d, %v", target, a.status, err)
			}
			if target == "/oscar/html2pdf" && !c.closed() {
				k.t.Errorf("%s, answered early: the connection goes on", target)
			}
		})
		if len(arrived) != 0 {
			k.t.Errorf("%s: what its body holds was run: %q", target, arrived)
		}
	}
	// net/http gives these one reading; ours, the record's and the application's is that one.
	body := func(request string, want string) {
		k.t.Helper()
		e := k.echo(k.must(request))
		if e.BodyBytes != int64(len(want)) || len(e.values("content-length")) > 1 || len(e.values("content-length"))+len(e.values("transfer-encoding")) > 1 {
			k.t.Errorf("%d bytes, want %d; %q %q", e.BodyBytes, len(want), e.values("content-length"), e.values("transfer-encoding"))
		}
	}
	arrived = k.reached(func() {
		body(k.with("POST", "/oscar/echo/both", "Content-Type: x/y\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"+hidden), "abc")
		body(k.with("POST", "/oscar/echo/twice", "Content-Type: x/y\r\nContent-Length: 3\r\nContent-Length: 3\r\n", "abc"+hidden), "abc")
		body(k.with("POST", "/oscar/echo/extension", "Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n", "3;a=\"b\"\r\nabc\r\n0\r\n\r\n"+hidden), "abc")
		body(strings.ReplaceAll(k.get("/oscar/echo/bare", ""), "\r\n", "\n"), "")
	})
	if want := []string{"/oscar/echo/bare", "/oscar/echo/both", "/oscar/echo/extension", "/oscar/echo/twice"}; !slices.Equal(arrived, want) {
		k.t.Errorf("arrived: %q, want %q", arrived, want)
	}
}

// heads2 sends heads that HTTP/2 forbids or that would change meaning where HTTP/1.1 follows (RFC 9113 §8.2, §8.3).
func heads2(k *knocker) {
	base := k.usual(http.MethodPost, "/oscar/echo")
	with := func(more ...[2]string) [][2]string { return append(slices.Clone(base), more...) }
	without := func(name string) [][2]string {
		return slices.DeleteFunc(slices.Clone(base), func(f [2]string) bool { return f[0] == name })
	}
	forms := map[string][][2]string{
		"no method": without(":method"), "no path": without(":path"), "no scheme": without(":scheme"), "no authority": without(":authority"),
		"two paths": with([2]string{":path", "/oscar/other"}), "two methods": with([2]string{":method", "GET"}),
		"a late pseudo field": with([2]string{"x-a", "b"}, [2]string{":path", "/oscar/other"}),
		"an unknown one":      append([][2]string{{":protocol", "websocket"}}, base...),
		"another host":        with([2]string{"host", "other.example"}), "a name in capitals": with([2]string{"X-A", "b"}),
		"connection": with([2]string{"connection", "x-a"}), "transfer-encoding": with([2]string{"transfer-encoding", "chunked"}),
		"keep-alive": with([2]string{"keep-alive", "1"}), "upgrade": with([2]string{"upgrade", "h2c"}), "te": with([2]string{"te", "gzip"}),
		"a line end in a value": with([2]string{"x-a", "b\r\nX-C: d"}), "NUL in a value": with([2]string{"x-a", "b\x00"}),
		"a line end in a name": with([2]string{"x-a\r\nx-b", "c"}), "a colon in a name": with([2]string{"x:a", "b"}),
		"a line end in the path":   k.usual("POST", "/oscar/echo HTTP/1.1\r\nX-A: b"),
		"a line end in the method": k.usual("GET /oscar/other HTTP/1.1\r\nX-A: b\r\n\r\nGET", "/oscar/echo"),
		"two lengths":              with([2]string{"content-length", "3"}, [2]string{"content-length", "4"}),
	}
	k.untouched(func() {
		for name, fields := range forms {
			a, err := k.wire2().ask(fields)
			if err == nil && !a.refused() {
				k.t.Errorf("%s: %d", name, a.status)
			} else if err != nil && !errors.Is(err, errReset) && !errors.Is(err, errGoAway) {
				k.t.Errorf("%s: %v", name, err)
			}
		}
	})
	for name, sent := range map[string]string{"short of its length": "ab", "over its length": "abcd"} {
		c := k.wire2()
		stream, err := c.open(with([2]string{"content-length", "3"}, [2]string{"content-type", "x/y"}), false)
		if err == nil {
			err = c.WriteData(stream, true, []byte(sent))
		}
		if err != nil {
			k.t.Fatal(err)
		}
		if a, err := c.read(stream); err == nil && a.status < 400 {
			k.t.Errorf("a body %s: %d: %.200s", name, a.status, a.body)
		}
	}
	// A bad head costs its own stream alone: what else runs on the connection, and on the link, goes on. Attack case B21.
	c := k.wire2()
	good, err := c.open(k.usual(http.MethodGet, "/oscar/servlet/BackupDownload?bytes=300000"), true)
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := c.open(with([2]string{"transfer-encoding", "chunked"}), true); err != nil {
		k.t.Fatal(err)
	}
	if a, err := c.read(good); err != nil || a.status != http.StatusOK || len(a.body) != 300000 || a.broken != nil {
		k.t.Errorf("beside a bad head: %d, %d bytes, %v, %v", a.status, len(a.body), err, a.broken)
	}
}

// methods: those that we do not carry are refused, and whoever comes next gets their own answer. Attack case B3.
func methods(k *knocker) {
	for round := range 20 {
		for _, method := range []string{"CONNECT", "TRACE", "PRI", "get", "Get", "PROPFIND", "FOO", "G\x01T", "G{T"} {
			a, err := k.send(k.with(method, "/oscar/echo", "", ""))
			if err != nil || a.status != http.StatusMethodNotAllowed && a.status != http.StatusBadRequest {
				k.t.Errorf("%q: %d, %v", method, a.status, err)
			}
		}
		target := fmt.Sprintf("/oscar/echo/%d", round)
		if e := k.echo(k.must(k.get(target, ""))); e.RequestURI != target {
			k.t.Errorf("asked for %s, answered for %s", target, e.RequestURI)
		}
	}
	if a, err := k.wire2().ask([][2]string{{":method", "CONNECT"}, {":authority", "127.0.0.1:8080"}}); err == nil && !a.refused() {
		k.t.Errorf("CONNECT: %d", a.status)
	}
}

// upgrades to anything but a WebSocket are answered as if nobody had offered them. Attack case B4.
func upgrades(k *knocker) {
	for _, offer := range []string{"h2c", "h2c, websocket2", "TLS/1.0", "spdy/3"} {
		lines := "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + offer + "\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
		e := k.echo(k.must(k.get("/oscar/echo", lines)))
		for _, name := range []string{"upgrade", "http2-settings"} {
			if got := e.values(name); len(got) != 0 {
				k.t.Errorf("%s: %s reached the application: %q", offer, name, got)
			}
		}
	}
}

// connectionFields: a client cannot name our fields as its connection's and so take them away. Attack case B6.
func connectionFields(k *knocker) {
	for _, list := range []string{
		"close, X-Oscar-User, X-Forwarded-For, Cookie, Sallyport-Assertion, X-Request-Id, X-Forwarded-Proto, Host",
		"CLOSE,x-forwarded-for,COOKIE,sallyport-assertion,X-REQUEST-ID,x-forwarded-proto,content-length,SALLYPORT-ACCESS-TOKEN",
	} {
		e := k.echo(k.must(k.get("/oscar/echo", "Connection: "+list+"\r\nX-Forwarded-For: 127.0.0.9\r\n")))
		for _, name := range []string{"x-forwarded-for", "sallyport-assertion", "x-request-id", "x-forwarded-proto", "host"} {
			if got := e.values(name); len(got) != 1 || got[0] == "127.0.0.9" {
				k.t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// reservedNames: what tells a server who is there, and for which address, comes from us alone. Attack cases A15, B7, J3.
func reservedNames(k *knocker) {
	names := []string{
		"Forwarded", "X-Forwarded", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Server",
		"X-Forwarded-Method", "X-Forwarded-User", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP",
		"CF-IPCountry", "X-Original-URL", "X-Original-URI", "X-Original-Host", "X-Original-Method", "X-Rewrite-URL", "X-Oscar-User",
		"X-Oscar-Provider", "Client-Cert", "X-SSL-Client-DN", "X-Client-DN", "Remote-User", "X-Remote-User", "X-ARR-ClientCert",
		"X-Scheme", "X-Url-Scheme", "Front-End-Https", "X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "Via",
		"X-Amzn-Oidc-Identity", "X-Goog-Authenticated-User-Email", "X-MS-Client-Principal-Name", "X-Pomerium-Jwt-Assertion",
		"X-Authentik-Username", "Tailscale-User-Login", "X-Custom-IP-Authorization", "Sallyport-Origin", "Proxy",
	}
	var lines strings.Builder
	for _, name := range names {
		fmt.Fprintf(&lines, "%s: forged\r\n", name)
	}
	lines.WriteString("X-Forwarded-For: 127.0.0.1\r\nx-forwarded-for: 192.168.1.1\r\nSallyport-Assertion: forged\r\nX-Request-Id: forged\r\nX-Forwarded-Proto: http\r\n")
	var two [][2]string
	for line := range strings.SplitSeq(strings.TrimSpace(lines.String()), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		two = append(two, [2]string{strings.ToLower(name), value})
	}
	answers := map[string]answer{"HTTP/1.1": k.must(k.get("/oscar/echo", lines.String()))}
	var err error
	if answers["HTTP/2"], err = k.wire2().ask(k.usual(http.MethodGet, "/oscar/echo", two...)); err != nil {
		k.t.Fatal(err)
	}
	for protocol, a := range answers {
		e := k.echo(a)
		for _, h := range e.Headers {
			if strings.Contains(h[1], "forged") {
				k.t.Errorf("%s: %s reached the application", protocol, h[0])
			}
		}
		// The visitor's address happens to be 127.0.0.1; nothing forged is beside it.
		if got := e.values("x-forwarded-for"); !slices.Equal(got, []string{"127.0.0.1"}) || e.RemoteAddr == "127.0.0.1" {
			k.t.Errorf("%s: X-Forwarded-For %q from %s", protocol, got, e.RemoteAddr)
		}
		if got := e.values("x-forwarded-proto"); !slices.Equal(got, []string{"https"}) || e.Method != http.MethodGet || e.RequestURI != "/oscar/echo" {
			k.t.Errorf("%s: %q %s %s", protocol, got, e.Method, e.RequestURI)
		}
	}
}

// oddNames: a name that servers fold into another is refused, wherever it stands. Attack case B8.
func oddNames(k *knocker) {
	k.untouched(func() {
		for _, name := range []string{"X_Oscar_User", "X-Oscar_User", "X.Oscar.User", "X-Forwarded_For", "X-Oscar User", "X-Oscar-User ", "X~A", "X\u00e9", "X'A", "X|A"} {
			if a := k.must(k.get("/oscar/echo", name+": forged\r\n")); a.status != http.StatusBadRequest {
				k.t.Errorf("%q: %d", name, a.status)
			}
			if a, err := k.wire2().ask(k.usual(http.MethodGet, "/oscar/echo", [2]string{strings.ToLower(name), "forged"})); err == nil && !a.refused() {
				k.t.Errorf("%q over HTTP/2: %d", name, a.status)
			}
		}
		if a := k.must(k.with("POST", "/oscar/echo", "Transfer-Encoding: chunked\r\nTrailer: X_Oscar_User\r\n", "3\r\nabc\r\n0\r\nX_Oscar_User: a\r\n\r\n")); a.status != http.StatusBadRequest {
			t := a.status
			k.t.Errorf("an announced trailer: %d", t)
		}
		for _, lines := range []string{"Content-Type: a/b\r\ncontent-type: c/d\r\n", "Authorization: a\r\nauthorization: b\r\n", "Cookie: a=1\r\ncookie: b=2\r\n"} {
			if a := k.must(k.get("/oscar/echo", lines)); a.status != http.StatusBadRequest {
				k.t.Errorf("%q: %d", lines, a.status)
			}
		}
	})
	a, err := k.send(k.with("POST", "/oscar/echo", "Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX_Oscar_User: a\r\n\r\n"))
	if err == nil && a.status < 400 {
		k.t.Errorf("a trailer that was not announced: %d: %.300s", a.status, a.body)
	}
	e := k.echo(k.must(k.with("POST", "/oscar/echo", "Content-Type: x/y\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Oscar-User\r\n",
		"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Oscar-User: forged\r\nCookie: a=b\r\n\r\n")))
	if e.Trailers["X-Sum"] != "1" || len(e.Trailers) != 1 {
		k.t.Errorf("trailers: %q", e.Trailers)
	}
}

// overrides: the method that is judged is the one that runs. Attack case B10.
func overrides(k *knocker) {
	k.untouched(func() {
		for _, query := range []string{"_method=DELETE", "a=1&_method=PUT", "%5fmethod=PUT", "_METHOD=PUT", "_method"} {
			if a := k.must(k.get("/oscar/echo?"+query, "")); a.status != http.StatusBadRequest {
				k.t.Errorf("%s: %d", query, a.status)
			}
		}
	})
	if e := k.echo(k.must(k.get("/oscar/echo?method=save", "X-HTTP-Method-Override: DELETE\r\n"))); e.Method != http.MethodGet {
		k.t.Errorf("method %s", e.Method)
	}
}

// hosts: exactly a known host, and the one that the connection was made for. Attack cases A9, B12, D2.
func hosts(k *knocker) {
	port := fmt.Sprint(k.w.Port)
	request := func(host string) string {
		return "GET /oscar/echo HTTP/1.1\r\nHost: " + host + "\r\nSallyport-Access-Token: " + k.token + "\r\n\r\n"
	}
	k.untouched(func() {
		for _, host := range []string{
			"", "[::1", "[::1]:" + port, "127.0.0.1", "a@" + AppHost, AppHost + "@b", AppHost + ":99999", AppHost + ":x", "xn--example-.com", "oscar.maple.localhost.evil.example",
			"oscar.mapl\u0435.localhost", "signin.maple.localhost", edgeOwn, "other.example", AppHost + "/x", AppHost + " x", AppHost + "..", "." + AppHost,
		} {
			a, err := k.send(request(host))
			if err != nil || a.status != http.StatusBadRequest && a.status != http.StatusMisdirectedRequest {
				k.t.Errorf("Host %q: %d, %v", host, a.status, err)
			}
		}
		a, err := k.wire2().ask([][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "signin.maple.localhost:" + port}, {":path", "/"}})
		if err != nil || a.status != http.StatusMisdirectedRequest {
			k.t.Errorf("another host than the connection's over HTTP/2: %d, %v", a.status, err)
		}
	})
	// One name in other spellings is the same host, and the application sees the one that we know.
	for _, host := range []string{strings.ToUpper(AppHost), AppHost + ".", AppHost + ".:" + port, AppHost + ":" + port, AppHost} {
		if e := k.echo(k.must(request(host))); !slices.Equal(e.values("host"), []string{k.host()}) {
			k.t.Errorf("Host %q became %q", host, e.values("host"))
		}
	}
}

// serverNames: a name that is not ours gets no certificate (RFC 6066 §3: alert 112). Attack case B12.
func serverNames(k *knocker) {
	for _, name := range []string{"", "unknown.localhost", "maple.localhost", "x.oscar.maple.localhost", "localhost"} {
		ctx, cancel := withPatience(k.t)
		dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} // no certificate is the point
		conn, err := dialer.DialContext(ctx, "tcp", k.w.EdgeAddr())
		cancel()
		if err == nil {
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			k.t.Errorf("server name %q: %v", name, err)
		}
	}
}

// expect: a promise of a body that never comes holds nothing up. Attack case B13.
func expect(k *knocker) {
	began := time.Now()
	if a := k.must(k.get("/oscar/echo", "Expect: 100-continue\r\n")); a.status != http.StatusOK {
		k.t.Errorf("without a body: %d", a.status)
	}
	if a := k.must(k.get("/oscar/echo", "Expect: something\r\n")); a.status != http.StatusExpectationFailed {
		k.t.Errorf("something else expected: %d", a.status)
	}
	if took := time.Since(began); took > Patience/4 {
		k.t.Errorf("took %s", took)
	}
	c := k.wire1(AppHost)
	if _, err := io.WriteString(c, k.with("POST", "/oscar/html2pdf", "Expect: 100-continue\r\nContent-Length: 1000000\r\n", "")); err != nil {
		k.t.Fatal(err)
	}
	if a, err := c.read(http.MethodPost); err != nil || a.status != http.StatusForbidden {
		k.t.Errorf("a body that nobody wants: %d, %v", a.status, err)
	}
	c = k.wire1(AppHost)
	if _, err := io.WriteString(c, k.with("POST", "/oscar/echo", "Content-Type: x/y\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", "")); err != nil {
		k.t.Fatal(err)
	}
	if line, err := c.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		k.t.Fatalf("not asked to go on: %q, %v", line, err)
	}
	if _, err := c.in.ReadString('\n'); err != nil {
		k.t.Fatal(err)
	}
	if _, err := io.WriteString(c, "abc"); err != nil {
		k.t.Fatal(err)
	}
	if a, err := c.read(http.MethodPost); err != nil || k.echo(a).BodyBytes != 3 {
		k.t.Errorf("after going on: %d, %v", a.status, err)
	}
}

// twoCredentials: two that could name different people are refused, and neither reaches the application. Attack case B18.
func twoCredentials(k *knocker) {
	d := k.w.SignIn()
	cookie := func(name string) string { return name + "=" + d.Cookie(k.w.URL("/"), name) }
	k.untouched(func() {
		for _, lines := range []string{
			"Cookie: " + cookie(session.CookieReference) + "\r\n", "Cookie: " + cookie(session.CookieAccess) + "\r\n",
			"Sallyport-Access-Token: " + k.token + "\r\n", "Authorization: Bearer a\r\nProxy-Authorization: Bearer b\r\n",
		} {
			if a := k.must(k.get("/oscar/echo", lines)); a.status != http.StatusBadRequest {
				k.t.Errorf("%.40s: %d", lines, a.status)
			}
		}
		both := "GET /oscar/echo HTTP/1.1\r\nHost: " + k.host() + "\r\nCookie: " + cookie(session.CookieReference) + "; " + cookie(session.CookieReference) + "\r\n\r\n"
		if a := k.must(both); a.status != http.StatusUnauthorized {
			k.t.Errorf("one cookie twice: %d", a.status)
		}
	})
	// The application's own credentials are its business, ours never are.
	e := k.echo(k.must(k.get("/oscar/echo", "Authorization: OAuth oauth_token=\"a\"\r\n")))
	if !slices.Equal(e.values("authorization"), []string{`OAuth oauth_token="a"`}) || len(e.values("sallyport-access-token")) != 0 {
		k.t.Errorf("%q", e.Headers)
	}
}

// closedDoors: nothing that is for the operator answers where browsers come in. Attack cases B11, B16, B17, J4.
func closedDoors(k *knocker) {
	k.untouched(func() {
		for _, host := range []string{AppHost, "signin.maple.localhost", edgeOwn} {
			c := k.wire1(host)
			for _, path := range []string{"/metrics", "/ready", "/healthz", "/debug/pprof/", "/debug/vars", "/admin", "/sallyport.admin.v1.AdminService/ListTenants", "/.sallyport/metrics", "/.sallyport/admin"} {
				if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-probe/1.30\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n", path, host); err != nil {
					k.t.Fatal(err)
				}
				a, err := c.read(http.MethodGet)
				if err != nil {
					k.t.Fatalf("%s%s: %v", host, path, err)
				}
				leak := strings.Contains(a.body, "goroutine") || strings.Contains(a.body, ".go:") || strings.Contains(a.body, "sallyport_edge") || a.header.Get("Server") != ""
				if a.status < 400 || leak {
					k.t.Errorf("%s%s: %d %v: %.200s", host, path, a.status, a.header, a.body)
				}
			}
		}
		for _, target := range []string{"/oscar/html2pdf", "/oscar/HTML2PDF/x", "/oscar/%68tml2pdf", "/oscar/monitoring", "/oscar/WEB-INF/web.xml", "/oscar/web-inf/web.xml", "/META-INF/x"} {
			if a := k.must(k.get(target, "X-Forwarded-For: 127.0.0.1\r\n")); a.status != http.StatusForbidden {
				k.t.Errorf("%s: %d", target, a.status)
			}
		}
	})
}

// writingByHead: HEAD is judged as the GET that it runs. Attack cases B13, J8.
func writingByHead(k *knocker) {
	k.untouched(func() {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if a := k.must(k.with(method, "/oscar/html2pdf", "", "")); a.status != http.StatusForbidden || method == http.MethodHead && a.body != "" {
				k.t.Errorf("%s of a closed page: %d, %d bytes", method, a.status, len(a.body))
			}
			// From another site, with the sign-in of whoever looks at that site.
			d := k.w.SignIn()
			lines := "Cookie: " + session.CookieReference + "=" + d.Cookie(k.w.URL("/"), session.CookieReference) + "\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
			request := method + " /oscar/provider/provideraddstatus.jsp?x=1 HTTP/1.1\r\nHost: " + k.host() + "\r\n" + lines + "\r\n"
			if a := k.must(request); a.status != http.StatusForbidden {
				k.t.Errorf("%s from another site: %d", method, a.status)
			}
		}
	})
}
