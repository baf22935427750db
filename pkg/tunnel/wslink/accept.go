package wslink

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// errRefused is returned after a request that asks for no tunnel has been answered.
var errRefused = errors.New("not a tunnel request")

// Accept turns a request for Path into a link, which is held. It takes HTTP/1.1 over TLS 1.3 only and answers anything
// else with a 4xx that says why. The handler may return while the link lives; http.Server no longer knows of it, so who
// drains closes links too.
func Accept(w http.ResponseWriter, r *http.Request, conf Config) (tunnel.Link, error) {
	if status, why := refusal(r, Subprotocol, tls.VersionTLS13); status != 0 {
		http.Error(w, why, status)
		return nil, errRefused
	}
	conf = conf.withDefaults(fewStreams, manyStreams, r.Header.Get(LaneField) == LaneBulk)
	ws, hijacked, err := accept(w, r, conf, Subprotocol)
	if err != nil {
		return nil, err
	}
	l, err := newLink(ws, hijacked.out, hijacked.socket, *r.TLS, conf, false)
	if err != nil {
		return nil, err
	}
	l.congestion = hijacked.congestion
	return l, nil
}

// accept answers the handshake of a WebSocket, and takes its connection from net/http.
func accept(w http.ResponseWriter, r *http.Request, conf Config, subprotocol string) (*websocket.Conn, *hijacker, error) {
	hijacked := &hijacker{ResponseWriter: w, limit: conf.WriteLimit, ask: conf.Congestion}
	ws, err := websocket.Accept(hijacked, r, &websocket.AcceptOptions{
		Subprotocols:    []string{subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	return ws, hijacked, err
}

// refusal is what to answer to a request that asks for no WebSocket of ours; status is 0 if it does.
func refusal(r *http.Request, subprotocol string, minTLS uint16) (status int, why string) {
	offered := strings.FieldsFunc(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), func(c rune) bool { return c == ',' || c == ' ' })
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return http.StatusUpgradeRequired, "the tunnel is a WebSocket over HTTP/1.1"
	case r.TLS == nil || r.TLS.Version < minTLS:
		return http.StatusForbidden, "the tunnel needs " + tls.VersionName(minTLS)
	case r.Header.Get("Origin") != "":
		return http.StatusForbidden, "the tunnel is not for browsers"
	case !slices.Contains(offered, subprotocol):
		return http.StatusBadRequest, "the tunnel's WebSocket protocol is " + subprotocol
	}
	return 0, ""
}

// hijacker puts an outlet between the WebSocket library and the connection that it hijacks.
type hijacker struct {
	http.ResponseWriter
	limit time.Duration
	// ask is the congestion control to ask for, congestion what is in effect.
	ask, congestion string
	socket          net.Conn
	out             *outlet
}

var _ http.Hijacker = (*hijacker)(nil)

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// The server's deadlines for a request's header and body are still set.
	if err := c.SetDeadline(time.Time{}); err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	h.socket = c
	if under, ok := c.(interface{ NetConn() net.Conn }); ok {
		h.socket = under.NetConn()
	}
	keepUnsentSmall(h.socket)
	h.congestion = askFor(h.socket, h.ask)
	h.out = newOutlet(c, h.limit, false)
	return h.out, bufio.NewReadWriter(small(buffered.Reader, h.out), bufio.NewWriterSize(h.out, frameBuffer)), nil
}

// frameBuffer is for the headers of WebSocket frames: payloads are read past the buffer, and not written by the library. Most links
// are idle, and two times 4 KiB each would be a good part of what they cost.
const frameBuffer = 256

// small returns a reader of c with a small buffer, unless something was read ahead from a peer that did not wait for our answer.
func small(ahead *bufio.Reader, c net.Conn) *bufio.Reader {
	if ahead.Buffered() > 0 {
		return ahead
	}
	return bufio.NewReaderSize(c, frameBuffer)
}
