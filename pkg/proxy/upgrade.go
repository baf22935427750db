package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// switchWait bounds the writing of the 101 itself.
const switchWait = 10 * time.Second

// join makes the browser's connection and the exchange one pipe until either ends or the lease does. No timer runs on it:
// how long a socket may live is the session's business.
func (c *carrying) join(resp *exchange.Response, far exchange.Conn) {
	if !c.take(&resp.Head) {
		return
	}
	conn, buffered, err := c.control.Hijack()
	if err != nil {
		c.cause = err
		c.page(wire.CodeInternal, 0)
		return
	}
	c.headed, c.result.Status = true, http.StatusSwitchingProtocols
	defer func() { _ = conn.Close() }()
	if err := c.switching(conn, resp.Head.Upgrade); err != nil {
		c.unjoined(err)
		return
	}
	near := &hijacked{Conn: conn}
	if n := buffered.Reader.Buffered(); n > 0 {
		near.ahead = io.LimitReader(buffered.Reader, int64(n))
	}
	in, out, err := c.buffers.Splice(c.r.Context(), near, far)
	c.result.BytesIn, c.result.BytesOut = in, out
	if err != nil {
		c.unjoined(err)
	}
}

// unjoined notes why the pipe broke. An error that is not the exchange's is the browser's connection.
func (c *carrying) unjoined(err error) {
	c.cause = err
	if c.result.ErrorCode = c.codeOf(err); c.result.ErrorCode == wire.CodeInternal {
		c.result.ErrorCode = wire.CodeClientAbort
	}
}

// switching writes the 101.
func (c *carrying) switching(conn net.Conn, protocol string) error {
	if err := conn.SetDeadline(time.Now().Add(switchWait)); err != nil {
		return err
	}
	h := c.w.Header()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	if h["Content-Type"] == nil {
		delete(h, "Content-Type")
	}
	delete(h, "Content-Length")
	w := bufio.NewWriter(conn)
	fmt.Fprintf(w, "HTTP/1.1 101 %s\r\n", http.StatusText(http.StatusSwitchingProtocols))
	if err := errors.Join(h.Write(w), second(w.WriteString("\r\n")), w.Flush()); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	// The lease may have ended while the deadline stood.
	return c.r.Context().Err()
}

func second(_ int, err error) error { return err }

// hijacked reads what net/http had read ahead first, and then the connection itself: net/http's own reader would cancel the
// request, and so the lease, at the connection's end.
type hijacked struct {
	net.Conn
	ahead io.Reader
}

func (h *hijacked) Read(p []byte) (int, error) {
	if h.ahead != nil {
		if n, err := h.ahead.Read(p); err == nil {
			return n, nil
		}
		h.ahead = nil
	}
	return h.Conn.Read(p)
}

// CloseWrite ends one direction, on TCP and TLS alike.
func (h *hijacked) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
