package wire

import "fmt"

// After the kind byte, a stream of kind exchange or continuation carries frames:
//
//	+------+----------------------+---------------+
//	| type | length, 4 bytes, big | payload       |
//	+------+----------------------+---------------+
//
// Types 0x01 to 0x3f change what a message means: one that the receiver does not know breaks the stream. Types from
// 0x40 up are hints: a receiver that does not know them skips them, up to MaxSkipped in a row.

// FrameType is the first byte of a frame.
type FrameType byte

// The frames of version 1.
const (
	FrameRequestHead  FrameType = 0x01 // RequestHead; first, connector-bound
	FrameResponseHead FrameType = 0x02 // ResponseHead; once, edge-bound
	FrameInterim      FrameType = 0x03 // Interim; before the ResponseHead
	FrameData         FrameType = 0x04 // bytes of the body, at least one
	FrameEnd          FrameType = 0x05 // End; last in its direction
	FrameMoved        FrameType = 0x06 // Moved; last in its direction on this stream
	FrameContinuation FrameType = 0x07 // Continuation; first on a stream of that kind
	FrameSegment      FrameType = 0x08 // where in the body it belongs, 8 bytes, big, and bytes of the body

	// FrameProbe has no meaning and no payload: its sender learns whether the peer has given the stream up.
	FrameProbe FrameType = 0x40

	firstSkippable FrameType = 0x40
)

// Limits, in bytes unless said otherwise.
const (
	FrameHeaderSize = 5
	// SegmentHeaderSize is that of a segment's frame with its offset.
	SegmentHeaderSize = FrameHeaderSize + offsetSize

	offsetSize      = 8
	MaxHead         = 64 << 10 // request and response heads
	MaxInterim      = 16 << 10
	MaxData         = 64 << 10
	MaxEnd          = 16 << 10
	MaxMoved        = 64
	MaxContinuation = 64
	MaxSegment      = offsetSize + MaxData
	MaxStripes      = 8        // streams that one moved body goes on on
	MaxSkippable    = 64 << 10 // a frame of a type that is skipped
	MaxSkipped      = 256      // how many of them in a row
)

// limit says how long the payload of a frame may be; false for types that must be refused.
func (t FrameType) limit() (int, bool) {
	switch t {
	case FrameRequestHead, FrameResponseHead:
		return MaxHead, true
	case FrameInterim:
		return MaxInterim, true
	case FrameData:
		return MaxData, true
	case FrameEnd:
		return MaxEnd, true
	case FrameMoved:
		return MaxMoved, true
	case FrameContinuation:
		return MaxContinuation, true
	case FrameSegment:
		return MaxSegment, true
	case FrameProbe:
		return 0, true
	}
	return MaxSkippable, t >= firstSkippable
}

func (t FrameType) String() string {
	switch t {
	case FrameRequestHead:
		return "request head"
	case FrameResponseHead:
		return "response head"
	case FrameInterim:
		return "interim"
	case FrameData:
		return "data"
	case FrameEnd:
		return "end"
	case FrameMoved:
		return "moved"
	case FrameContinuation:
		return "continuation"
	case FrameSegment:
		return "segment"
	case FrameProbe:
		return "probe"
	}
	return fmt.Sprintf("frame 0x%02x", byte(t))
}
