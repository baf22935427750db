package wslink

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/gather"
)

// outlet is the way to the TLS connection: it writes the frames of the session, and takes the few of the WebSocket library,
// which answers pings and closes. It bounds every write.
//
// The library masks a message into a buffer of 4 KiB, piece by piece, and gives each piece to TLS. Here a message is copied
// once, masked on the way, and leaves as records of 16 KiB in one system call.
type outlet struct {
	net.Conn
	limit time.Duration
	masks bool
	under gather.Holder // the socket below TLS; nil if it gathers nothing

	// turn holds one token: whoever writes has it. It is no mutex, so that fake time (testing/synctest) passes while
	// one goroutine waits for another one's write.
	turn chan struct{}
}

func newOutlet(c net.Conn, limit time.Duration, masks bool) *outlet {
	return &outlet{Conn: c, limit: limit, masks: masks, under: gather.Under(c), turn: make(chan struct{}, 1)}
}

// Write is for the library, which gives a frame of control to it in one piece.
func (o *outlet) Write(p []byte) (int, error) {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	return o.through(p)
}

// The header of a frame (RFC 6455 §5.2).
const (
	finalBinary  = 0x80 | 2
	masked       = 0x80
	length16     = 126
	length64     = 127
	frameHeader  = 2 + 8 + 4 // at most
	recordData   = 16 << 10  // of one TLS record
	maskRepeated = 1 << 10
)

// messages lends the buffers in which messages are put together: most links are idle.
var messages = sync.Pool{New: func() any { return new([frameHeader + maxMessage]byte) }}

// message writes one binary message, of at most maxMessage bytes, in one frame: header and body follow each other in it.
func (o *outlet) message(header, body []byte) error {
	buf := messages.Get().(*[frameHeader + maxMessage]byte)
	defer messages.Put(buf)
	size := len(header) + len(body)
	b := append(buf[:0], finalBinary)
	flag := byte(0)
	if o.masks {
		flag = masked
	}
	switch {
	case size < length16:
		b = append(b, flag|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, flag|length16), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, flag|length64), uint64(size))
	}
	if o.masks {
		var key [4]byte
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		b = append(b, key[:]...)
		b = b[:len(b)+size]
		payload := b[len(b)-size:]
		copy(payload, header)
		mask(payload, payload[:len(header)], key, 0)
		mask(payload[len(header):], body, key, len(header))
	} else {
		b = append(append(b, header...), body...)
	}
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	_, err := o.through(b)
	return err
}

// mask writes from to to, masked as what lies at offset in a frame's payload (RFC 6455 §5.3).
func mask(to, from []byte, key [4]byte, offset int) {
	var pad [maskRepeated]byte
	n := min(len(from), len(pad))
	for i := range min(n, len(key)) {
		pad[i] = key[(offset+i)%len(key)]
	}
	for filled := len(key); filled < n; filled *= 2 {
		copy(pad[filled:], pad[:filled])
	}
	for len(from) > 0 {
		done := subtle.XORBytes(to, from, pad[:])
		to, from = to[done:], from[done:]
	}
}

// through writes p. The limit is that of one record, and grows with the size: a slow line is not a dead one.
func (o *outlet) through(p []byte) (n int, err error) {
	records := time.Duration(1 + (len(p)-1)/recordData)
	if err := o.SetWriteDeadline(time.Now().Add(o.limit * records)); err != nil {
		return 0, err
	}
	if o.under == nil || records == 1 {
		return o.Conn.Write(p)
	}
	o.under.Hold()
	n, err = o.Conn.Write(p)
	if released := o.under.Release(); err == nil {
		err = released
	}
	return n, err
}
