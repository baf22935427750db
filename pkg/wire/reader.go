package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// readerBuffer holds most exchanges' heads; bytes of large bodies go past it, straight to the caller.
const readerBuffer = 4 << 10

// Reader reads the frames of one stream. It is for one goroutine. After any error but io.EOF from Read, the stream is
// of no more use.
type Reader struct {
	r       *bufio.Reader
	frame   FrameType
	rest    int // bytes of the present frame's payload that have not been read
	offset  uint64
	payload []byte
}

// NewReader returns a Reader of what follows the kind byte.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, readerBuffer)} }

// Reset makes the Reader read from r, keeping its buffers but not one that a large head needed.
func (r *Reader) Reset(source io.Reader) {
	r.r.Reset(source)
	r.frame, r.rest, r.offset, r.payload = 0, 0, 0, nil
}

// Next skips what is left of the present frame and reads the header of the next one of a known type. io.EOF: the
// stream ended between two frames; io.ErrUnexpectedEOF: within one.
func (r *Reader) Next() (FrameType, error) {
	for skipped := 0; skipped <= MaxSkipped; skipped++ {
		if err := r.skip(); err != nil {
			return 0, err
		}
		if err := r.header(); err != nil {
			return 0, err
		}
		if r.frame < firstSkippable {
			return r.frame, nil
		}
		if r.frame == FrameProbe {
			skipped-- // comes by the clock for as long as an exchange lasts
		}
	}
	return 0, violationf("frames: more than %d unknown ones in a row", MaxSkipped)
}

func (r *Reader) header() error {
	b, err := r.r.Peek(FrameHeaderSize)
	if err != nil {
		if len(b) > 0 {
			return short(err)
		}
		return err
	}
	frame, size := FrameType(b[0]), binary.BigEndian.Uint32(b[1:])
	limit, known := frame.limit()
	if !known {
		return violationf("frames: unknown type 0x%02x", byte(frame))
	}
	if uint64(size) > uint64(limit) {
		return violationf("%v: %d bytes, the limit is %d", frame, size, limit)
	}
	if frame == FrameData && size == 0 {
		return violationf("data: empty frame")
	}
	if _, err := r.r.Discard(FrameHeaderSize); err != nil {
		return short(err)
	}
	r.frame, r.rest = frame, int(size)
	if frame == FrameSegment {
		return r.segment()
	}
	return nil
}

// segment reads where the present segment belongs.
func (r *Reader) segment() error {
	if r.rest < offsetSize {
		return violationf("segment: no offset")
	}
	b, err := r.r.Peek(offsetSize)
	if err != nil {
		return short(err)
	}
	r.offset = binary.BigEndian.Uint64(b)
	n, err := r.r.Discard(offsetSize)
	r.rest -= n
	return short(err)
}

// Offset says where in the body the present segment begins, in bytes.
func (r *Reader) Offset() uint64 { return r.offset }

// Buffered says how many bytes of the stream are here and have not been read.
func (r *Reader) Buffered() int { return r.r.Buffered() }

// Rest says how many bytes of the present frame have not been read.
func (r *Reader) Rest() int { return r.rest }

func (r *Reader) skip() error {
	n, err := r.r.Discard(r.rest)
	r.rest -= n
	return short(err)
}

// Read reads from the payload of the present data frame or segment; io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.rest == 0 || r.frame != FrameData && r.frame != FrameSegment {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(len(p), r.rest)])
	r.rest -= n
	if r.frame == FrameSegment && n > 0 && n < len(p) && r.rest > 0 {
		// What came with the header. The rest was written together with it, and is worth one write together. If it is not to
		// be had, the next call says so.
		more, _ := r.r.Read(p[n : n+min(len(p)-n, r.rest)])
		r.rest -= more
		n += more
	}
	if n > 0 {
		return n, nil // the last bytes may come together with the FIN, which then comes again
	}
	return n, short(err)
}

// RequestHead parses the present frame, of that type.
func (r *Reader) RequestHead() (h RequestHead, err error) {
	err = r.message(FrameRequestHead, h.parse)
	return h, err
}

// ResponseHead parses the present frame, of that type.
func (r *Reader) ResponseHead() (h ResponseHead, err error) {
	err = r.message(FrameResponseHead, h.parse)
	return h, err
}

// Interim parses the present frame, of that type.
func (r *Reader) Interim() (i Interim, err error) {
	err = r.message(FrameInterim, i.parse)
	return i, err
}

// End parses the present frame, of that type.
func (r *Reader) End() (e End, err error) {
	err = r.message(FrameEnd, e.parse)
	return e, err
}

// Moved parses the present frame, of that type.
func (r *Reader) Moved() (m Moved, err error) {
	err = r.message(FrameMoved, m.parse)
	return m, err
}

// Continuation parses the present frame, of that type.
func (r *Reader) Continuation() (c Continuation, err error) {
	err = r.message(FrameContinuation, c.parse)
	return c, err
}

func (r *Reader) message(want FrameType, parse func([]byte) error) error {
	if r.frame != want {
		return violationf("expected %v, got %v", want, r.frame)
	}
	size := r.rest
	if size <= readerBuffer {
		payload, err := r.r.Peek(size)
		if err != nil {
			return short(err)
		}
		err = parse(payload)
		return errors.Join(err, r.skip())
	}
	if cap(r.payload) < size {
		r.payload = make([]byte, size)
	}
	payload := r.payload[:size]
	n, err := io.ReadFull(r.r, payload)
	if r.rest -= n; err != nil {
		return short(err)
	}
	return parse(payload)
}

// short turns the end of the stream within a frame into io.ErrUnexpectedEOF.
func short(err error) error {
	if err == io.EOF { //nolint:errorlint // a link that ended may have io.EOF in its chain, and keeps its own error
		return io.ErrUnexpectedEOF
	}
	return err
}
