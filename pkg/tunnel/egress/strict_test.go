package egress_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// serveLinks accepts WebSocket links on l until the test ends.
func serveLinks(t *testing.T, l net.Listener, conf *tls.Config) <-chan tunnel.Link {
	accepted := make(chan tunnel.Link, 1)
	server := &http.Server{TLSConfig: conf, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if link, err := wslink.Accept(w, r, wslink.Config{}); err == nil {
			accepted <- link
		}
	})}
	go func() { _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return accepted
}

// A SOCKS5 proxy that checks every byte of RFC 1928 and 1929, and that the name came unresolved.
func TestSOCKS5UserAndRemoteName(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		heard <- strictSOCKS(c)
	}()
	e := way(t, "socks5://clinic:pass@"+l.Addr().String(), nil)
	conn, err := e.Connect(t.Context(), "tcp", "edge.clinic.example:443")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := <-heard; got != "clinic pass edge.clinic.example 443" {
		t.Errorf("the proxy heard %q", got)
	}
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("%T: not the connection itself, which links tune", conn)
	}
}

func strictSOCKS(c net.Conn) string {
	r := bufio.NewReader(c)
	take := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b)
		return b
	}
	head := take(2)
	if head[0] != 5 || !containsByte(take(int(head[1])), 2) {
		return "greeting"
	}
	_, _ = c.Write([]byte{5, 2})
	if take(1)[0] != 1 {
		return "RFC 1929 version"
	}
	user := string(take(int(take(1)[0])))
	password := string(take(int(take(1)[0])))
	_, _ = c.Write([]byte{1, 0})
	if string(take(4)) != "\x05\x01\x00\x03" {
		return "request"
	}
	name := string(take(int(take(1)[0])))
	port := take(2)
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	if port[0] != 1 || port[1] != 187 {
		return "port"
	}
	return user + " " + password + " " + name + " 443"
}

func containsByte(list []byte, b byte) bool {
	for _, x := range list {
		if x == b {
			return true
		}
	}
	return false
}

// A proxy over TLS, with a CA of its own, user and password; without that CA it is not spoken to.
func TestConnectOverTLS(t *testing.T) {
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := basic(r)
		if r.Method != http.MethodConnect || r.Host != "edge.example:443" || !ok || user != "u" || password != "p:q" {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		_, _ = io.Copy(c, c)
	}))
	defer proxy.Close()
	roots := x509.NewCertPool()
	roots.AddCert(proxy.Certificate())
	var a egress.Address
	if err := a.UnmarshalText([]byte("https://u:p%3Aq@" + proxy.Listener.Addr().String())); err != nil {
		t.Fatal(err)
	}
	e, err := egress.New(egress.Config{Proxy: a, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.Connect(t.Context(), "tcp", "edge.example:443")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	echo := make([]byte, 4)
	if _, err = io.WriteString(conn, "ping"); err == nil {
		_, err = io.ReadFull(conn, echo)
	}
	if err != nil || string(echo) != "ping" {
		t.Errorf("%q, %v", echo, err)
	}
	if e, err = egress.New(egress.Config{Proxy: a, Roots: x509.NewCertPool()}); err != nil {
		t.Fatal(err)
	}
	refuses(t, e, "edge.example:443", egress.Unreachable, "cannot be spoken to over TLS")
}

func basic(req *http.Request) (user, password string, ok bool) {
	if req == nil {
		return "", "", false
	}
	r := &http.Request{Header: http.Header{"Authorization": req.Header.Values("Proxy-Authorization")}}
	return r.BasicAuth()
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "inside.example"}
	for address, want := range map[string]string{
		"edge.example:443": "http://proxy.example:3128", "edge.inside.example:443": "none",
		"localhost:443": "none", "edge.localhost:8443": "none", "127.0.0.1:443": "none",
	} {
		if u, err := way(t, "", env).For(address); err != nil || egress.Shown(u) != want {
			t.Errorf("%s: %s, %v; want %s", address, egress.Shown(u), err, want)
		}
	}
	if u, err := way(t, "none", env).For("edge.example:443"); u != nil || err != nil {
		t.Errorf("none: %v, %v", u, err)
	}
	if u, _ := way(t, "", map[string]string{"ALL_PROXY": "socks5://u:pw@p.example"}).For("edge.example:443"); egress.Shown(u) != "socks5://u:xxxxx@p.example:1080" {
		t.Errorf("ALL_PROXY: %s", egress.Shown(u))
	}
	if _, err := way(t, "", map[string]string{"ALL_PROXY": "gopher://u:s3cret@p"}).For("edge.example:443"); err == nil {
		t.Error("gopher was taken")
	}
}
