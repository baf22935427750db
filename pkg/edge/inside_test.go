package edge

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// goInside opens a connection inside a WebSocket to the edge, and TLS in it for a host.
func goInside(t *testing.T, e *Edge, host string, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	socket, err := new(net.Dialer).DialContext(t.Context(), "tcp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	anybody := &tls.Config{InsecureSkipVerify: true} // who answers is not what is asked
	inner, err := wslink.Inside(t.Context(), tunnel.Target{URL: &url.URL{Scheme: "https", Host: "edge.example"}, TLS: anybody, Outer: anybody}, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	c := tls.Client(inner, &tls.Config{InsecureSkipVerify: true, ServerName: host, NextProtos: protocols})
	return c, c.HandshakeContext(t.Context())
}

// statusOf sends a request on a connection and returns the answer's status.
func statusOf(t *testing.T, c net.Conn, path string, header http.Header) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://edge.example"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// Inside a WebSocket is what connectors need, and no more.
func TestInsideIsTheEdgesOwnName(t *testing.T) {
	e := running(t, prepared(t))
	c, err := goInside(t, e, "edge.example", "h2", "http/1.1")
	if err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" || c.ConnectionState().Version != tls.VersionTLS13 {
		t.Fatalf("the edge's own name: %v, %q", err, c.ConnectionState().NegotiatedProtocol)
	}
	if got := statusOf(t, c, "/", nil); got != http.StatusNotFound {
		t.Errorf("status %d", got)
	}
	again := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
		"Sec-Websocket-Protocol": {wslink.InnerSubprotocol},
	}
	if got := statusOf(t, c, wslink.InnerPath, again); got != http.StatusBadRequest {
		t.Errorf("inside of inside: status %d", got)
	}
	for _, host := range []string{"signin.maple.example", "EDGE.example.", ""} {
		if _, err := goInside(t, e, host, "http/1.1"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := goInside(t, e, "edge.example", "h2"); err == nil {
		t.Error("HTTP/2 is spoken inside")
	}
}

// A link that comes inside a WebSocket has one place at the door, from before the TLS outside until it is admitted or gone: of two
// for each, many that come at once would wait for each other.
func TestInsideTakesOnePlaceAtTheDoor(t *testing.T) {
	e, err := New(t.Context(), prepared(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	e.doors.tcp = tunnel.Door{Places: 1, Limit: time.Hour}
	serving(t, e)
	free := func() bool {
		leave, ok := e.doors.tcp.Enter("somebody else")
		if ok {
			leave()
		}
		return ok
	}
	for _, path := range []string{"/", "gone"} {
		c, err := goInside(t, e, "edge.example", "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		if free() {
			t.Error("a connection that may become a link has no place")
		}
		if path == "gone" {
			_ = c.Close()
		} else if got := statusOf(t, c, path, nil); got != http.StatusNotFound {
			t.Errorf("status %d", got)
		}
		eventually(t, "the place is free again after "+path, free)
	}
}
