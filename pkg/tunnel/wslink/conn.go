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
	"golang.org/x/time/rate"
)

// yamux's header (its spec.md): version, type, flags, stream id, length.
const (
	yamuxHeader = 12
	yamuxData   = 0
	yamuxPing   = 2
	yamuxSYN    = 1 // of the flags; on a ping it asks for an answer
)

// A peer asks for a round trip once in Config.Ping. yamux answers each from a goroutine that waits for its turn to write, so
// that pings without end from a peer that takes its time to read would fill the memory.
const (
	pingsPerSecond = 10
	pingsAtOnce    = 100
)

// conn is what yamux reads from and writes to: the payload of binary WebSocket messages, as one stream of bytes.
//
// yamux writes the 12 bytes of a data frame's header and its payload in two calls. Sent as they come they would be two
// messages and two TLS records per chunk; so a data header waits here for its payload. Only yamux's one sending
// goroutine calls Write, and only its receiving one calls Read.
type conn struct {
	ws  *websocket.Conn
	out *outlet
	// take is told how many bytes came; an error ends the link.
	take func(n int) error
	// broken is told once what failed; it must not block.
	broken func(error)
	// done is closed when the link has ended. From then on yamux writes nothing: its "go away" would race the close frame
	// and its reason.
	done <-chan struct{}
	// began is when the link was made, and heard how long after that bytes last came: no step of the wall clock may make a
	// peer look silent, or alive.
	began time.Time
	heard atomic.Int64
	// frames and pings are the reader's.
	frames frames
	pings  *rate.Limiter

	// inside holds a token while the rest of a message is read: yamux then holds a stream's mutex, which the closing
	// handshake's own reading must not prolong.
	inside  chan struct{}
	message io.Reader
	// header is of a data frame and waits for the payload; pending says so.
	header  [yamuxHeader]byte
	pending bool
}

var _ io.ReadWriteCloser = (*conn)(nil)

var (
	errText  = errors.New("a WebSocket message that is not binary")
	errPings = errors.New("far too many pings")
)

// silent is for how long nothing has come.
func (c *conn) silent() time.Duration {
	return time.Since(c.began) - time.Duration(c.heard.Load())
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.began)))
		if full := c.take(n); full != nil {
			return 0, full
		}
		if asked := c.frames.pings(p[:n]); asked > 0 && !c.pings.AllowN(time.Now(), asked) {
			c.broken(errPings)
			return 0, errPings
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

// frames follows the boundaries of yamux's frames through the bytes of a connection.
type frames struct {
	header [yamuxHeader]byte
	have   int
	skip   uint32 // of a data frame's payload
}

// pings returns how many pings that want an answer end in p.
func (f *frames) pings(p []byte) (asked int) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, uint32(len(p)))
			f.skip, p = f.skip-n, p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		f.have, p = f.have+n, p[n:]
		if f.have < yamuxHeader {
			break
		}
		f.have = 0
		switch f.header[1] {
		case yamuxData:
			f.skip = binary.BigEndian.Uint32(f.header[8:])
		case yamuxPing:
			if binary.BigEndian.Uint16(f.header[2:])&yamuxSYN != 0 {
				asked++
			}
		}
	}
	return asked
}

func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	default:
	}
	if !c.pending && headerOfData(p) {
		c.pending = true
		return copy(c.header[:], p), nil
	}
	var header []byte
	if c.pending {
		header, c.pending = c.header[:], false
	}
	err := c.out.message(header, p)
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
