package wslink

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// The first stream of a session, opened by the side that dialled, carries messages of nine bytes both ways:
//
//	kind (1) · stream id (4) · code (4)
//
//	reset: the sender has abandoned the stream and reads and writes nothing more there
//	seen:  the answer to reset
//
// yamux's FIN means "all bytes were written" and nothing else, so a side that abandons a stream must not send it before
// the other side knows: the FIN would arrive on the stream while the reset still waits on this one, and half a body
// would pass for a whole one. So FIN follows the answer. Unknown kinds are skipped.
const (
	messageSize = 9

	messageReset byte = 1
	messageSeen  byte = 2
)

type message struct {
	kind   byte
	stream uint32
	code   uint32
}

func (m message) append(b []byte) []byte {
	b = append(b, m.kind)
	b = binary.BigEndian.AppendUint32(b, m.stream)
	return binary.BigEndian.AppendUint32(b, m.code)
}

func parseMessage(b [messageSize]byte) message {
	return message{kind: b[0], stream: binary.BigEndian.Uint32(b[1:]), code: binary.BigEndian.Uint32(b[5:])}
}

// maxWaiting is how many messages may wait for the peer. An honest one takes them as they come; at most two are due for each
// stream that may be open, and one for each reset that crossed ours.
const maxWaiting = 8 * manyStreams

// outbox queues messages without ever blocking, so that Reset can be called from anywhere. It never holds more than
// maxWaiting: a peer that resets streams without end and reads no answer must not grow it.
type outbox struct {
	mu    sync.Mutex
	queue []message
	ready chan struct{}
}

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

// put reports whether there was room.
func (o *outbox) put(m message) bool {
	o.mu.Lock()
	room := len(o.queue) < maxWaiting
	if room {
		o.queue = append(o.queue, m)
	}
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return room
}

// tell queues a message for the peer; one that finds no room ends the link. It never blocks.
func (l *Link) tell(m message) {
	if !l.outbox.put(m) {
		l.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the control stream is not read"}})
	}
}

func (o *outbox) drain(buf []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.queue {
		buf = m.append(buf)
	}
	o.queue = o.queue[:0]
	return buf
}

// sendControl writes what is in the outbox to the control stream.
func (l *Link) sendControl(w io.Writer) error {
	for chunk := l.outbox.drain(nil); len(chunk) > 0; {
		n := min(len(chunk), maxChunk)
		if _, err := w.Write(chunk[:n]); err != nil {
			return err
		}
		chunk = chunk[n:]
	}
	return nil
}

// receiveControl acts on the peer's messages until the link ends.
func (l *Link) receiveControl(r io.Reader) error {
	var b [messageSize]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return err
		}
		m := parseMessage(b)
		switch m.kind {
		case messageReset:
			l.onReset(m.stream, tunnel.ResetCode(m.code))
		case messageSeen:
			l.onSeen(m.stream)
		}
	}
}
