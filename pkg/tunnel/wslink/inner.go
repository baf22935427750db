package wslink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/gather"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// InnerPath is where an edge takes connections inside a WebSocket, InnerSubprotocol what both sides must name. An edge that does
// not know them answers 404.
const (
	InnerPath        = "/.sallyport/inside"
	InnerSubprotocol = "sallyport.inside.v1"
)

// What a peer gets before Inner.Admit.
const (
	// innerBytes is for the handshake of the TLS inside (some 3 KB from connectors), the head of a request, and what a held link
	// takes, which TLS reads ahead of.
	innerBytes = 3 * tunnel.HeldBytes
	// innerLimit is how long a connection has to become a link that is admitted: 5 s of that are the link's own.
	innerLimit = 10 * time.Second
	// innerMessage is the largest payload of a message: with the frame's header it fills four TLS records.
	innerMessage = maxMessage - frameHeader
)

// Inner is a connection to an edge inside the binary messages of a WebSocket: for where a firewall opens the TLS around that. What
// runs in it is what would run over a TCP connection to the same edge: TLS, then a link or an enrolment. How a WebSocket is cut
// into messages means nothing.
//
// The firewall can read and change all that Inner carries, and end it; so nothing that the WebSocket says counts, its close code
// least of all. Write deadlines are Config.WriteLimit and no others.
type Inner struct {
	ws     *websocket.Conn
	out    *outlet
	socket net.Conn // under the outer TLS
	outer  tls.ConnectionState

	// near is where Read finds what fill puts into far: a deadline must be able to end a wait, and the library's reader breaks the
	// WebSocket then.
	near, far net.Conn
	filled    chan struct{} // closed when fill has ended
	closing   sync.Once

	admitted atomic.Bool
	taken    atomic.Int64
	limit    *time.Timer // nil at the side that dialled
}

var (
	_ net.Conn     = (*Inner)(nil)
	_ syscall.Conn = (*Inner)(nil)
)

// AcceptInner turns a request for InnerPath into a connection, and answers anything else with a 4xx that says why. Until Admit the
// connection takes 48 KiB and lasts 10 s. TLS 1.2 is enough outside: what counts is the TLS inside, and firewalls that open TLS
// often speak no other.
func AcceptInner(w http.ResponseWriter, r *http.Request) (*Inner, error) {
	if status, why := refusal(r, InnerSubprotocol, tls.VersionTLS12); status != 0 {
		http.Error(w, why, status)
		return nil, errRefused
	}
	ws, hijacked, err := accept(w, r, Config{}.withDefaults(0, 0, false), InnerSubprotocol)
	if err != nil {
		return nil, err
	}
	c := newInner(ws, hijacked.out, hijacked.socket, *r.TLS)
	c.limit = time.AfterFunc(innerLimit, func() {
		if !c.admitted.Load() {
			c.end()
		}
	})
	return c, nil
}

// Inside makes a connection to the target's edge inside socket, which leads there and on which nothing was said yet. target.Outer
// judges what answers. An error leaves socket to the caller; else it goes with Inner.
func Inside(ctx context.Context, target tunnel.Target, socket net.Conn) (*Inner, error) {
	conf := target.Outer.Clone()
	conf.ServerName = target.ClientTLS("").ServerName
	conf.NextProtos = []string{"http/1.1"}
	conf.DynamicRecordSizingDisabled = true
	secured := tls.Client(gather.NewConn(socket), conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, outsideError(err)
	}
	out := newOutlet(secured, Config{}.withDefaults(0, 0, false).WriteLimit, true)
	ws, err := upgrade(ctx, target, out, opening{path: InnerPath, subprotocol: InnerSubprotocol})
	if err != nil {
		return nil, notTheEdge(err)
	}
	c := newInner(ws, out, socket, secured.ConnectionState())
	c.admitted.Store(true)
	return c, nil
}

// outsideError says what is wrong with the TLS outside.
func outsideError(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		err = fmt.Errorf("%w; if that is the firewall's, ca_file has to name its CA", issuedBy(untrusted))
	}
	return fmt.Errorf("the TLS outside, which a firewall may open: %w", err)
}

// notTheEdge keeps an answer outside from being taken for the edge's word on us: whoever opens TLS can say anything.
func notTheEdge(err error) error {
	var closed *tunnel.ClosedError
	if !errors.As(err, &closed) || !closed.Remote {
		return err
	}
	return fmt.Errorf("no connection inside a WebSocket: %s; the firewall that opens TLS does not let it pass, or the edge is too old for it",
		closed.Reason.Message)
}

func newInner(ws *websocket.Conn, out *outlet, socket net.Conn, outer tls.ConnectionState) *Inner {
	ws.SetReadLimit(maxMessage)
	c := &Inner{ws: ws, out: out, socket: socket, outer: outer, filled: make(chan struct{})}
	c.near, c.far = net.Pipe()
	go c.fill()
	return c
}

// fill passes on what comes until the WebSocket ends, or the connection is closed.
func (c *Inner) fill() {
	defer close(c.filled)
	defer func() { _ = c.far.Close() }() // which Read sees as the end
	for {
		kind, r, err := c.ws.Reader(context.Background())
		if err != nil || kind != websocket.MessageBinary || c.pass(r) != nil {
			return
		}
	}
}

// pass passes one message on. Its buffer is lent, because most connections are idle.
func (c *Inner) pass(r io.Reader) error {
	buf := records.Get().(*[]byte)
	defer records.Put(buf)
	_, err := io.CopyBuffer(c.far, r, *buf)
	return err
}

var errInnerHeld = errors.New("too much was sent inside a WebSocket before a link was admitted")

// Read implements net.Conn.
func (c *Inner) Read(p []byte) (int, error) {
	n, err := c.near.Read(p)
	if !c.admitted.Load() && c.taken.Add(int64(n)) > innerBytes {
		return 0, errInnerHeld
	}
	return n, err
}

// Write implements net.Conn.
func (c *Inner) Write(p []byte) (n int, err error) {
	if len(p) > innerMessage && c.out.under != nil {
		c.out.under.Hold()
		defer func() {
			if released := c.out.under.Release(); err == nil {
				err = released
			}
		}()
	}
	for n < len(p) {
		piece := p[n:min(len(p), n+innerMessage)]
		if err := c.out.message(nil, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// Admit lifts the limits: what the connection was opened for has proved itself.
func (c *Inner) Admit() {
	c.admitted.Store(true)
	if c.limit != nil {
		c.limit.Stop()
	}
}

// Close implements net.Conn. The peer is told nothing outside of what was written.
func (c *Inner) Close() error {
	c.Admit()
	c.end()
	return nil
}

func (c *Inner) end() {
	c.closing.Do(func() {
		_ = c.socket.Close()
		_ = c.near.Close()
		_ = c.far.Close()
		_ = c.ws.CloseNow()
		<-c.filled
	})
}

// OpenedBy is who issued the certificate outside, at most 100 bytes, if the edge showed another one inside: then somebody opens TLS.
// Otherwise, and for nil, it is empty.
func (c *Inner) OpenedBy(inside tls.ConnectionState) string {
	if c == nil || len(c.outer.PeerCertificates) == 0 || len(inside.PeerCertificates) == 0 {
		return ""
	}
	outer := c.outer.PeerCertificates[0]
	if bytes.Equal(outer.Raw, inside.PeerCertificates[0].Raw) {
		return ""
	}
	return fmt.Sprintf("%.100s", outer.Issuer.String())
}

// explain says of an error of the TLS inside that it is that one's.
func (c *Inner) explain(err error) error {
	if c == nil {
		return err
	}
	return fmt.Errorf("the TLS inside, which no firewall can open unnoticed: %w", err)
}

// LocalAddr implements net.Conn.
func (c *Inner) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Inner) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline implements net.Conn, for reading.
func (c *Inner) SetDeadline(t time.Time) error { return c.near.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Inner) SetReadDeadline(t time.Time) error { return c.near.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn and changes nothing.
func (c *Inner) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn implements syscall.Conn: the TCP connection's.
func (c *Inner) SyscallConn() (syscall.RawConn, error) {
	under, ok := c.socket.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return under.SyscallConn()
}
