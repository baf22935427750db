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
}

// put reports whether there was room.
func (o *outbox) put(m message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) >= maxWaiting {
		return false
	}
	o.queue = append(o.queue, m)
	return true
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0
}

// drain takes what waits.
func (o *outbox) drain() (chunk []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.queue {
		chunk = m.append(chunk)
	}
	o.queue = nil
	return chunk
}

// tell queues a message for the peer; one that finds no room ends the link. It never blocks.
func (l *Link) tell(m message) {
	if !l.outbox.put(m) {
		l.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the control stream is not read"}})
	}
	l.send()
}

// send has what is in the outbox written to the control stream, as soon as there is one, by a goroutine that lives no longer than
// that takes.
func (l *Link) send() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control == nil || l.sending || l.over {
		return
	}
	l.sending = true
	l.goroutines.Go(func() {
		if err := l.sendControl(l.control); err != nil {
			l.fail(closedError(err))
		}
	})
}

// sendControl returns when the outbox is empty and who puts something into it begins to send anew, or with what failed.
func (l *Link) sendControl(w io.Writer) error {
	for {
		chunk := l.outbox.drain()
		if len(chunk) == 0 && l.sent() {
			return nil
		}
		for len(chunk) > 0 {
			n := min(len(chunk), maxChunk)
			if _, err := w.Write(chunk[:n]); err != nil {
				return err
			}
			chunk = chunk[n:]
		}
	}
}

// sent ends the sending unless something has come meanwhile.
func (l *Link) sent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = !l.outbox.empty()
	return !l.sending
}

// readControl acts on the messages that are due, and ends the link if there can be no more.
func (l *Link) readControl() {
	for l.notices.next(messageSize) {
		if err := l.receiveControl(l.control); err != nil {
			<-l.sessionOver()
			l.fail(closedError(err))
			return
		}
	}
}

// receiveControl acts on the peer's next message.
func (l *Link) receiveControl(r io.Reader) error {
	var b [messageSize]byte
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
	return nil
}
