package wslink

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// yamux's header (its spec.md): version, type, flags, stream id, length.
const (
	yamuxHeader = 12
	yamuxData   = 0
	yamuxWindow = 1
	yamuxPing   = 2
	// The flags. SYN opens a stream, and on a ping it asks for an answer; FIN and RST end one.
	yamuxSYN = 1
	yamuxFIN = 4
	yamuxRST = 8
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
// messages and two TLS records per chunk; so a data header waits here for its payload, and so does the frame that opens a stream
// for whatever follows: whoever opens one writes on it. Only yamux's one sending goroutine calls Write, and only its receiving
// one calls Read.
type conn struct {
	ws  *websocket.Conn
	out *outlet
	// take is told how many bytes came; an error ends the link.
	take func(n int) error
	// broken is told once what failed; it must not block.
	broken func(error)
	// begun is told what frames have begun to come, before yamux has them, and closed that yamux has ended the session.
	// Neither may block.
	begun  func(begun)
	closed func()
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

	// inside holds a token while a message is read, which the closing handshake's own reading must not break into.
	inside chan struct{}
	// rest is what yamux has not read of a message, in buf. A message is read whole first: yamux holds the stream's mutex
	// while it reads a frame, and neither a deadline nor a reset would end the wait of the stream's reader for that.
	rest  []byte
	small [64]byte // most messages of a quiet link
	lent  *sync.Pool
	buf   *[]byte // of lent; nil while nothing waits in it
	// pending waits for the write that follows: a frame that opens a stream, a header of data, or one behind the other; header is
	// room for it. payload says that a header of data was the last that yamux wrote: what follows is no frame.
	header  [2 * yamuxHeader]byte
	pending []byte
	payload bool
	// opens is set while a stream is being opened that is to be written on.
	opens atomic.Bool
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
	for len(c.rest) == 0 {
		if err := c.next(); err != nil {
			c.broken(err)
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	if len(c.rest) == 0 {
		c.giveBack()
	}
	return n, nil
}

// records and wholes lend the buffers in which messages are read. Before Admit no more may come than the smaller ones hold.
var records, wholes = lender(recordData), lender(maxMessage + 1)

func lender(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}
}

// grow returns a larger buffer that begins with all of full; nil if there is none.
func (c *conn) grow(full []byte) []byte {
	to := records
	switch c.lent {
	case records:
		to = wholes
	case wholes:
		return nil
	}
	b := to.Get().(*[]byte)
	copy(*b, full)
	c.giveBack()
	c.lent, c.buf = to, b
	return *b
}

func (c *conn) giveBack() {
	if c.buf != nil {
		c.lent.Put(c.buf)
		c.lent, c.buf = nil, nil
	}
}

// next waits for the next message and reads it. It waits on a small stack, as most links do most of the time.
func (c *conn) next() error {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return err
	}
	if kind != websocket.MessageBinary {
		return errText
	}
	return c.whole(r)
}

// whole reads a message that has begun.
func (c *conn) whole(r io.Reader) error {
	select {
	case <-c.done:
		return net.ErrClosed
	case c.inside <- struct{}{}:
	}
	defer func() { <-c.inside }()
	room := c.small[:]
	size := 0
	for {
		n, err := r.Read(room[size:min(len(room), size+recordData)])
		if n > 0 {
			if err := c.came(room[size : size+n]); err != nil {
				return err
			}
			size += n
		}
		if errors.Is(err, io.EOF) {
			c.rest = room[:size]
			return nil
		}
		if err != nil {
			return err
		}
		if size == len(room) {
			if room = c.grow(room); room == nil {
				return websocket.ErrMessageTooBig
			}
		}
	}
}

// came takes note of bytes of the peer.
func (c *conn) came(p []byte) error {
	c.heard.Store(int64(time.Since(c.began)))
	if err := c.take(len(p)); err != nil {
		return err
	}
	what := c.frames.follow(p)
	if what.pings > 0 && !c.pings.AllowN(time.Now(), what.pings) {
		return errPings
	}
	if what.streams > 0 || what.control > 0 || what.first > 0 {
		c.begun(what)
	}
	return nil
}

// frames follows the boundaries of yamux's frames through the bytes of a connection.
type frames struct {
	header [yamuxHeader]byte
	have   int
	skip   uint32 // of a data frame's payload
}

// begun is what this side has to do for frames that begin to come.
type begun struct {
	pings   int   // that want an answer
	streams int64 // that the peer opens
	control int64 // bytes on the control stream; endless when its end is among them
	first   int64 // the same on firstStream
}

// follow returns what begins in p.
func (f *frames) follow(p []byte) (what begun) {
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
		what.add(f.header)
		if f.header[1] == yamuxData {
			f.skip = binary.BigEndian.Uint32(f.header[8:])
		}
	}
	return what
}

// add counts a frame.
func (b *begun) add(header [yamuxHeader]byte) {
	flags, length := binary.BigEndian.Uint16(header[2:]), binary.BigEndian.Uint32(header[8:])
	switch header[1] {
	case yamuxPing:
		if flags&yamuxSYN != 0 {
			b.pings++
		}
		return
	case yamuxWindow:
		length = 0
	case yamuxData:
	default:
		return
	}
	if flags&yamuxSYN != 0 {
		b.streams++
	}
	comes := int64(length)
	if flags&(yamuxFIN|yamuxRST) != 0 {
		comes += endless
	}
	switch binary.BigEndian.Uint32(header[4:]) {
	case controlStream:
		b.control += comes
	case firstStream:
		b.first += comes
	}
}

func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	default:
	}
	if c.waits(p) {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	header := c.pending
	c.pending = c.header[:0]
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

// waits reports whether p is to wait for the write that follows it.
func (c *conn) waits(p []byte) bool {
	if c.payload {
		c.payload = false
		return false
	}
	room := len(c.pending) < cap(c.pending)
	if headerOfData(p) {
		c.payload = true
		// Behind another frame only what is small: a message must not exceed what the peer takes.
		return room && (len(c.pending) == 0 || binary.BigEndian.Uint32(p[8:]) <= recordData)
	}
	return room && opensStream(p) && c.opens.Load()
}

func opensStream(p []byte) bool {
	return len(p) == yamuxHeader && p[1] == yamuxWindow && binary.BigEndian.Uint16(p[2:])&yamuxSYN != 0
}

func headerOfData(p []byte) bool {
	return len(p) == yamuxHeader && p[1] == yamuxData && binary.BigEndian.Uint32(p[8:]) > 0
}

// Close closes nothing: yamux calls it from inside its own shutdown and then waits for its readers. The link closes the
// connection, after it has tried to tell the peer why.
func (c *conn) Close() error {
	c.closed()
	return nil
}

// leave makes yamux stop reading, once the message that it is in the middle of has come or a moment has passed.
func (c *conn) leave() {
	moment := time.NewTimer(closeLimit / 8)
	defer moment.Stop()
	select {
	case c.inside <- struct{}{}:
	case <-moment.C:
	}
}
