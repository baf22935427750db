package wslink

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// yamux's header (its spec.md): version, type, flags, stream id, length.
const (
	yamuxHeader = 12
	yamuxData   = 0
)

// conn is what yamux reads from and writes to: the payload of binary WebSocket messages, as one stream of bytes.
//
// yamux writes the 12 bytes of a data frame's header and its payload in two calls. Sent as they come they would be two
// messages and two TLS records per chunk; so a data header waits here for its payload. Only yamux's one sending
// goroutine calls Write, and only its receiving one calls Read.
type conn struct {
	ws   *websocket.Conn
	cork *cork
	// take is told how many bytes came; an error ends the link.
	take func(n int) error
	// broken is told once what failed; it must not block.
	broken func(error)
	// done is closed when the link has ended. From then on yamux writes nothing: its "go away" would race the close frame
	// and its reason.
	done <-chan struct{}
	// heard is when bytes last came, in Unix nanoseconds.
	heard atomic.Int64

	// inside holds a token while the rest of a message is read: yamux then holds a stream's mutex, which the closing
	// handshake's own reading must not prolong.
	inside  chan struct{}
	message io.Reader
	pending []byte
}

var _ io.ReadWriteCloser = (*conn)(nil)

var errText = errors.New("a WebSocket message that is not binary")

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
		if full := c.take(n); full != nil {
			return 0, full
		}
	}
	if err != nil {
		c.broken(err)
	}
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if kind != websocket.MessageBinary {
				return 0, errText
			}
			c.message = r
		}
		select {
		case <-c.done:
			return 0, net.ErrClosed
		case c.inside <- struct{}{}:
		}
		n, err := c.message.Read(p)
		<-c.inside
		if errors.Is(err, io.EOF) {
			c.message = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	default:
	}
	if len(c.pending) == 0 && headerOfData(p) {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	message := p
	if len(c.pending) > 0 {
		c.pending = append(c.pending, p...)
		message = c.pending
		c.pending = c.pending[:0]
	}
	c.cork.push()
	err := c.ws.Write(context.Background(), websocket.MessageBinary, message)
	if pulled := c.cork.pull(); err == nil {
		err = pulled
	}
	if err != nil {
		// Mostly because the peer has closed, and the reader is about to find its reason: see Link.sessionEnded.
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.broken(err)
		}
		return 0, err
	}
	return len(p), nil
}

func headerOfData(p []byte) bool {
	return len(p) == yamuxHeader && p[1] == yamuxData && binary.BigEndian.Uint32(p[8:]) > 0
}

// Close does nothing: yamux calls it from inside its own shutdown and then waits for its readers. The link closes the
// connection, after it has tried to tell the peer why.
func (c *conn) Close() error { return nil }

// leave makes yamux stop reading, once the message that it is in the middle of has come or a moment has passed.
func (c *conn) leave() {
	moment := time.NewTimer(closeLimit / 8)
	defer moment.Stop()
	select {
	case c.inside <- struct{}{}:
	case <-moment.C:
	}
}
