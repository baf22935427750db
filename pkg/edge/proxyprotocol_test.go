package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// behind is a TLS server behind trusted load balancers that says where a request comes from.
func behind(t *testing.T, p ProxyProtocol) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = fmt.Fprint(w, r.Proto, " ", r.RemoteAddr)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n%s\n", c.RemoteAddr())
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(c, line)
	}))
	e := &Edge{config: Config{ProxyProtocol: p}, metrics: metric.New(), logger: zap.NewNop()}
	l, err := e.behindBalancers(server.Listener)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener, server.EnableHTTP2 = l, true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// client opens connections that begin with a header.
func client(s *httptest.Server, header []byte) *http.Client {
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil && len(header) > 0 {
			_, err = c.Write(header)
		}
		return c, err
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func said(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

func v2(t *testing.T, command proxyproto.ProtocolVersionAndCommand) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443})
	h.Command = command
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const v1 = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n"

// A trusted balancer's header is where a connection comes from; anybody else's, or none where one has to be, ends it.
func TestTheAddressThatABalancerSays(t *testing.T) {
	t.Parallel()
	loopback := []string{"127.0.0.0/8"}
	for _, c := range []struct {
		name   string
		from   ProxyProtocol
		header []byte
		want   string // of the address; empty: refused
	}{
		{"version 1", ProxyProtocol{Trusted: loopback}, []byte(v1), "198.51.100.7:4711"},
		{"version 2", ProxyProtocol{Trusted: []string{"::1", "127.0.0.1"}}, v2(t, proxyproto.PROXY), "[2001:db8::7]:4711"},
		{"the balancer's own", ProxyProtocol{Trusted: loopback}, v2(t, proxyproto.LOCAL), "127.0.0.1:"},
		{"none where one has to be", ProxyProtocol{Trusted: loopback}, nil, ""},
		{"none where that is allowed", ProxyProtocol{Trusted: loopback, Optional: true}, nil, "127.0.0.1:"},
		{"one where none has to be", ProxyProtocol{Trusted: loopback, Optional: true}, []byte(v1), "198.51.100.7:4711"},
		{"the balancer's own, version 1", ProxyProtocol{Trusted: loopback}, []byte("PROXY UNKNOWN\r\n"), "127.0.0.1:"},
		{"no address", ProxyProtocol{Trusted: loopback}, []byte("PROXY TCP4 x y 1 2\r\n"), ""},
		{"twice", ProxyProtocol{Trusted: loopback}, []byte(v1 + v1), ""},
		{"from anybody else", ProxyProtocol{Trusted: []string{"192.0.2.0/24"}}, []byte(v1), ""},
		{"nobody trusted", ProxyProtocol{}, []byte(v1), ""},
		{"anybody else without", ProxyProtocol{Trusted: []string{"192.0.2.0/24"}}, nil, "127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := behind(t, c.from)
			got, err := said(t, client(s, c.header), s.URL)
			if c.want == "" && err == nil || c.want != "" && !strings.HasPrefix(got, "HTTP/2.0 "+c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestAnUpgradeBehindABalancer(t *testing.T) {
	t.Parallel()
	s := behind(t, ProxyProtocol{Trusted: []string{"127.0.0.1"}})
	raw, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(raw, v1)
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	reader := bufio.NewReader(c)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	from, _ := reader.ReadString('\n')
	_, _ = io.WriteString(c, "hello\n")
	echo, err := reader.ReadString('\n')
	if from != "198.51.100.7:4711\n" || echo != "hello\n" {
		t.Errorf("%q %q %v", from, echo, err)
	}
}

// Connections that say nothing hold up nobody, and are given up when the edge stops.
func TestASlowHeaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := behind(t, ProxyProtocol{Trusted: []string{"127.0.0.1"}})
	var silent []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	if got, err := said(t, client(s, []byte(v1)), s.URL); err != nil || !strings.Contains(got, "198.51.100.7") {
		t.Errorf("%q, %v", got, err)
	}
	s.Close()
	for _, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(headerLimit / 2))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) || err == nil {
			t.Fatal("a connection without a header stays open:", err)
		}
	}
}

// A whole edge behind a balancer: TLS with its own certificates, over HTTP/2.
func TestAnEdgeBehindABalancer(t *testing.T) {
	c := prepared(t)
	c.ProxyProtocol = ProxyProtocol{Trusted: []string{"127.0.0.1"}}
	e := running(t, c)
	if _, err := handshake(t, e, "edge.example"); err == nil {
		t.Error("a connection without a header is taken")
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: "edge.example", InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, e.Addr().String())
			if err == nil {
				_, err = io.WriteString(conn, v1)
			}
			return conn, err
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://edge.example/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusNotFound {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
}

func TestTrustedRanges(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.0.0/8": true, "192.0.2.7": true, "2001:db8::/32": true, "::ffff:192.0.2.7": true,
		"0.0.0.0/0": false, "::/0": false, "lb.example": false, "": false, "10.0.0.0/33": false,
	} {
		if err := (ProxyProtocol{Trusted: []string{text}}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever comes instead of a header is refused, or leaves what follows it untouched.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte(v1 + "rest"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x12\x67\x01\xbbrest"))
	f.Add([]byte("\x16\x03\x01 TLS"))
	p := &proxied{optional: true}
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		defer func() { _ = near.Close() }()
		var wrote sync.WaitGroup
		wrote.Go(func() {
			_, _ = far.Write(b)
			_ = far.Close()
		})
		defer wrote.Wait()
		defer func() { _ = near.Close() }()
		reader := bufio.NewReaderSize(near, headerBuffer)
		remote, result, err := p.origin(near, reader)
		if (err == nil) != (remote != nil) {
			t.Fatalf("%v, %s, %v", remote, result, err)
		}
		if result != "absent" {
			return
		}
		rest, _ := io.ReadAll(reader)
		if !bytes.Equal(rest, b) {
			t.Errorf("%q of %q is left of what is no header", rest, b)
		}
	})
}
