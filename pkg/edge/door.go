package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/gather"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// doorWait is how long a connector over TCP may wait before its TLS handshake; with that it must fit into guard.HeaderTimeout.
const doorWait = 3 * time.Second

// doors are what links come in by. Each transport has its own, so that bulk links that wait, and browsers over HTTP/3, take no
// place of a lane that has none at all.
type doors struct {
	quic, tcp tunnel.Door
	refused   *prometheus.CounterVec // by transport
}

func newDoors(metrics *metric.Registry) *doors {
	d := &doors{refused: metrics.Counter("sallyport_edge_door_refused_total", "Connections for links that found too many being opened, by transport.", "transport")}
	late := new(run.Lateness)
	d.quic.Late, d.tcp.Late = late.Late, late.Late
	return d
}

// enterQUIC is quiclink.Config.Enter: there is no waiting, because quic-go asks in the one goroutine that takes first packets.
func (d *doors) enterQUIC(remote net.Addr) (leave func(), ok bool) {
	leave, ok = d.quic.Enter(session.SourceOf(remote.String()))
	if !ok {
		d.refused.WithLabelValues("quic").Inc()
	}
	return leave, ok
}

// comers makes connections of l such that atDoor can stop them.
type comers struct {
	net.Listener
}

func (l comers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &comer{Conn: c}, nil
}

// comer is a TCP connection that may hold a place at the door.
type comer struct {
	net.Conn
	inner *wslink.Inner // what Conn is, if it is inside a WebSocket; else nil

	mu     sync.Mutex // guards both
	leave  func()
	closed bool
}

var _ syscall.Conn = (*comer)(nil)

// SyscallConn implements syscall.Conn.
func (c *comer) SyscallConn() (syscall.RawConn, error) {
	under, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return under.SyscallConn()
}

var _ gather.Holder = (*comer)(nil)

// Hold implements gather.Holder.
func (c *comer) Hold() {
	if h, ok := c.Conn.(gather.Holder); ok {
		h.Hold()
	}
}

// Release implements gather.Holder.
func (c *comer) Release() error {
	if h, ok := c.Conn.(gather.Holder); ok {
		return h.Release()
	}
	return nil
}

// holds notes the place that the connection has.
func (c *comer) holds(leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		leave()
		return
	}
	c.leave = leave
}

// handOn gives the place to next, a connection inside this one: it is for the link, and that has not come yet.
func (c *comer) handOn(next *comer) {
	if c == nil {
		return
	}
	c.mu.Lock()
	leave := c.leave
	c.leave = nil
	c.mu.Unlock()
	if leave != nil {
		next.holds(leave)
	}
}

// admitted is when the link that the connection is for has proved who it is, or something else has come that may take its time.
func (c *comer) admitted() {
	if c != nil && c.inner != nil {
		c.inner.Admit()
	}
	c.left()
}

// left gives the place back, if the connection has one.
func (c *comer) left() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leave != nil {
		c.leave()
		c.leave = nil
	}
}

// Close implements net.Conn.
func (c *comer) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.left()
	return c.Conn.Close()
}

var errNoPlace = errors.New("too many links are being opened")

// atDoor has whoever comes for a link wait for a place before the handshake, the part that costs. Nothing can be said to those
// who wait too long, so they find their connection closed, and come back by their back-off.
func (d *doors) atDoor(base *tls.Config, host string) *tls.Config {
	conf := base.Clone()
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, ok := hello.Conn.(*comer)
		// A link is a WebSocket over HTTP/1.1: who would also speak HTTP/2 gets that, and no link.
		// What is inside a WebSocket came in by the place of that.
		if !ok || c.inner != nil || !strings.EqualFold(hello.ServerName, host) || slices.Contains(hello.SupportedProtos, "h2") {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(hello.Context(), doorWait)
		defer cancel()
		leave, err := d.tcp.Wait(ctx, session.SourceOf(c.RemoteAddr().String()))
		if err != nil {
			d.refused.WithLabelValues("websocket").Inc()
			_ = c.Close()
			return nil, errNoPlace
		}
		c.holds(leave)
		return nil, nil
	}
	return conf
}

// comerKey is under which a request's context has its connection.
type comerKey struct{}

// withComer is for http.Server.ConnContext, beside guard's.
func withComer(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*tls.Conn); ok {
		if c, ok := secured.NetConn().(*comer); ok {
			return context.WithValue(ctx, comerKey{}, c)
		}
	}
	return ctx
}

// comerOf is the connection that a request came on; nil where that holds no place.
func comerOf(r *http.Request) *comer {
	c, _ := r.Context().Value(comerKey{}).(*comer)
	return c
}
