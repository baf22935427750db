package wire

import (
	"encoding/binary"
	"io"
)

// WriteSize is how many bytes a Writer gathers before it writes: small exchanges leave in one Write, large bodies in
// writes that hold up nobody else on the link for long.
const WriteSize = 32 << 10

// firstBuffer is enough for the head of most exchanges and a small body; the buffer grows to WriteSize for who needs it.
const firstBuffer = 2 << 10

// Writer gathers frames and writes them in as few writes as it can. It is for one goroutine. Nothing leaves before
// Flush but what no longer fits into WriteSize. The first error of the stream stays: every later call returns it.
type Writer struct {
	w   io.Writer
	buf []byte
	// data is where in buf the header of the last frame lies if that is a data frame, so that small writes to a body
	// share one frame; -1 if not.
	data int
	err  error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, buf: make([]byte, 0, firstBuffer), data: -1}
}

// Reset makes the Writer write to w, keeping its buffer and nothing else; what was gathered is dropped.
func (w *Writer) Reset(to io.Writer) {
	w.w, w.buf, w.data, w.err = to, w.buf[:0], -1, nil
}

// Kind writes the stream's kind byte.
func (w *Writer) Kind(kind byte) { w.buf = append(w.buf, kind) }

// Buffered returns how many bytes wait for Flush.
func (w *Writer) Buffered() int { return len(w.buf) }

// RequestHead validates and gathers h. An error that is ErrProtocol leaves the Writer as it was.
func (w *Writer) RequestHead(h *RequestHead) error {
	return w.message(FrameRequestHead, h.Validate, h.append)
}

// ResponseHead does so for an answer's head.
func (w *Writer) ResponseHead(h *ResponseHead) error {
	return w.message(FrameResponseHead, h.Validate, h.append)
}

// Interim does so for an informational answer.
func (w *Writer) Interim(i *Interim) error { return w.message(FrameInterim, i.Validate, i.append) }

// End does so for the last frame.
func (w *Writer) End(e *End) error { return w.message(FrameEnd, e.Validate, e.append) }

// Moved does so for a body that goes on elsewhere.
func (w *Writer) Moved(m *Moved) error { return w.message(FrameMoved, m.Validate, m.append) }

// Continuation does so for the head of a continued body.
func (w *Writer) Continuation(c *Continuation) error {
	return w.message(FrameContinuation, c.Validate, c.append)
}

// Segment gathers p, at most MaxData bytes, as the part of a moved body that begins at offset. None of it says how long
// the body is.
func (w *Writer) Segment(offset uint64, p []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(p) > MaxData {
		return violationf("segment: %d bytes, the limit is %d", len(p), MaxData)
	}
	start := len(w.buf)
	w.buf = append(w.buf, make([]byte, SegmentHeaderSize)...)
	PutSegmentHeader(w.buf[start:], offset, len(p))
	w.buf = append(w.buf, p...)
	w.data = -1
	return nil
}

// PutSegmentHeader writes what stands before n bytes of a segment into b[:SegmentHeaderSize], for those that have the
// bytes in place behind it already and write both at once.
func PutSegmentHeader(b []byte, offset uint64, n int) {
	b[0] = byte(FrameSegment)
	binary.BigEndian.PutUint32(b[1:], uint32(offsetSize+n))
	binary.BigEndian.PutUint64(b[FrameHeaderSize:], offset)
}

// Probe gathers an empty frame that the peer skips.
func (w *Writer) Probe() {
	w.buf = append(w.buf, byte(FrameProbe), 0, 0, 0, 0)
	w.data = -1
}

func (w *Writer) message(t FrameType, validate func() error, encode func([]byte) []byte) error {
	if w.err != nil {
		return w.err
	}
	if err := validate(); err != nil {
		return err
	}
	start := len(w.buf)
	w.buf = encode(append(w.buf, byte(t), 0, 0, 0, 0))
	size := len(w.buf) - start - FrameHeaderSize
	if limit, _ := t.limit(); size > limit {
		w.buf = w.buf[:start]
		return violationf("%v: %d bytes, the limit is %d", t, size, limit)
	}
	binary.BigEndian.PutUint32(w.buf[start+1:], uint32(size))
	w.data = -1
	return nil
}

// Write gathers bytes of the body as data frames; what fills the buffer leaves at once.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 && w.err == nil {
		n := min(w.room(), len(p))
		w.buf = append(w.buf, p[:n]...)
		w.close(n)
		p, written = p[n:], written+n
		if len(p) > 0 {
			w.err = w.Flush()
		}
	}
	return written, w.err
}

// room makes sure that a data frame is open, and returns how many bytes it may take.
func (w *Writer) room() int {
	const least = 512
	if len(w.buf)+FrameHeaderSize+least > WriteSize {
		w.err = w.Flush()
	}
	if w.data < 0 {
		w.data = len(w.buf)
		w.buf = append(w.buf, byte(FrameData), 0, 0, 0, 0)
	}
	return WriteSize - len(w.buf)
}

// close accounts n bytes to the open data frame, and drops the frame if it is empty.
func (w *Writer) close(n int) {
	size := int(binary.BigEndian.Uint32(w.buf[w.data+1:])) + n
	binary.BigEndian.PutUint32(w.buf[w.data+1:], uint32(size))
	if size == 0 {
		w.buf = w.buf[:w.data]
		w.data = -1
	}
}

// Flush writes what was gathered, in one Write.
func (w *Writer) Flush() error {
	if w.err != nil || len(w.buf) == 0 {
		return w.err
	}
	_, w.err = w.w.Write(w.buf)
	w.buf, w.data = w.buf[:0], -1
	return w.err
}
