package edge

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync"

	"golang.org/x/net/http2"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

// http2Server serves HTTP/2 so that it can end without losing a request.
//
// The GOAWAY of net/http names the last stream that was seen: a request that is on its way is refused, and a client that cannot
// send its body again loses it. RFC 9113 §6.8 wants two: the first names the highest stream there can be, so that the client opens no more; the
// second, a round trip later, the last one that came. The library cannot send the first, so it is put between its frames here.
type http2Server struct {
	server http2.Server //nolint:staticcheck // net/http takes no connection with a GOAWAY put between its frames
	keeper *http.Server // whose Shutdown makes the library send the second; it has no connection itself

	mu      sync.Mutex // guards both
	open    map[*h2conn]struct{}
	leaving bool
}

// serveHTTP2 makes server speak HTTP/2 in this way.
func serveHTTP2(server *http.Server) (*http2Server, error) {
	h := &http2Server{keeper: &http.Server{TLSConfig: server.TLSConfig, ErrorLog: server.ErrorLog}, open: map[*h2conn]struct{}{}}
	guard.Server(h.keeper)
	if err := http2.ConfigureServer(h.keeper, &h.server); err != nil { //nolint:staticcheck // net/http takes no connection with a GOAWAY put between its frames
		return nil, fmt.Errorf("http/2: %w", err)
	}
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){http2.NextProtoTLS: h.serve}
	return h, nil
}

// serve serves a connection until it ends.
func (h *http2Server) serve(server *http.Server, conn *tls.Conn, handler http.Handler) {
	c := &h2conn{Conn: conn}
	h.mu.Lock()
	h.open[c] = struct{}{}
	leaving := h.leaving
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.open, c)
		h.mu.Unlock()
	}()
	if leaving {
		c.announce()
	}
	opts := &http2.ServeConnOpts{Handler: handler, BaseConfig: server}        //nolint:staticcheck // net/http takes no connection with a GOAWAY put between its frames
	if base, ok := handler.(interface{ BaseContext() context.Context }); ok { // as net/http hands its own over
		opts.Context = base.BaseContext()
	}
	h.server.ServeConn(c, opts) //nolint:staticcheck // net/http takes no connection with a GOAWAY put between its frames
}

// announce tells every client, also those yet to come, to open no more streams. What they have on its way is served.
func (h *http2Server) announce() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = true
	for c := range h.open {
		go c.announce() // a client that does not read holds up nobody else
	}
}

// last names the last stream that came: connections end with their streams.
func (h *http2Server) last() { _ = h.keeper.Shutdown(context.Background()) } // without a connection it does not wait

// h2conn is the connection under the library's frames. It follows what the library writes, to know where a frame ends.
type h2conn struct {
	*tls.Conn

	mu   sync.Mutex // guards all below, and makes writes whole
	head []byte     // of the frame under way, as far as it was written
	left int        // bytes to come of its payload
	any  bool       // a frame was written: SETTINGS, which must be the first (RFC 9113 §3.4)
	due  bool       // the announcement is to be made at the end of a frame
}

// frameHead is the length of a frame's header (RFC 9113 §4.1): length of the payload 3, type 1, flags 1, stream 4.
const frameHead = 9

// Write implements net.Conn.
func (c *h2conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.follow(p[:n])
	if err == nil {
		err = c.say()
	}
	return n, err
}

func (c *h2conn) follow(p []byte) {
	for len(p) > 0 {
		if c.left > 0 {
			n := min(c.left, len(p))
			c.left, p = c.left-n, p[n:]
			continue
		}
		n := min(frameHead-len(c.head), len(p))
		c.head, p = append(c.head, p[:n]...), p[n:]
		if len(c.head) == frameHead {
			c.left = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
			c.head, c.any = c.head[:0], true
		}
	}
}

// announce sends the first GOAWAY as soon as that can be.
func (c *h2conn) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	_ = c.say() // the library finds a connection that is broken by itself
}

// say is called under mu. It sends GOAWAY (RFC 9113 §6.8), stream 2³¹-1, NO_ERROR, if that is due and no frame is half written.
func (c *h2conn) say() error {
	if !c.due || !c.any || c.left > 0 || len(c.head) > 0 {
		return nil
	}
	c.due = false
	frame := []byte{0, 0, 8, byte(http2.FrameGoAway), 0, 0, 0, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, 1<<31-1)
	frame = binary.BigEndian.AppendUint32(frame, uint32(http2.ErrCodeNo))
	_, err := c.Conn.Write(frame)
	return err
}
