package exchange

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// body is the incoming direction of an exchange after its head: data frames until an end frame. It holds no bytes but
// the reader's few KiB; who does not read holds the sender back.
type body struct {
	stream tunnel.Stream
	// side is this one, and ctx the exchange's, for abort.
	side side
	ctx  context.Context
	// length is how many bytes the head declared; -1: as many as come.
	length int64
	// moves says whether the body may go on elsewhere, and where it then comes in, under key.
	moves     *Moves
	key       bodyKey
	direction direction
	// ended is called once, with mu held, when the end frame came (nil, or the abort it carried) or when the
	// exchange broke (anything else).
	ended func(cause error, framed bool)
	// closed makes Read fail; set without mu, which a blocked Read holds.
	closed atomic.Bool

	mu      sync.Mutex
	r       *wire.Reader // nil once retired, which err precedes
	got     int64
	inData  bool
	cur     *wire.Reader // with inData: in whose frame
	own     *own         // nil before the body has moved
	lane    *inLane      // nil before its continuations are there
	trailer wire.Header
	err     error
}

// abort says in this package's words why the exchange ended.
func (b *body) abort(err error) *AbortError { return b.side.abort(b.ctx, err) }

// Read returns io.EOF when all of the body has arrived, and an *AbortError when it was broken off.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, errClosed
	}
	return b.read(p)
}

// read is Read; the caller holds mu.
func (b *body) read(p []byte) (int, error) {
	for b.err == nil && len(p) > 0 {
		if !b.inData {
			b.next()
			continue
		}
		n, err := b.cur.Read(p)
		if isFIN(err) {
			b.inData = false
			continue
		}
		if err != nil {
			b.fail(err, false)
			continue
		}
		b.got += int64(n)
		if b.length >= 0 && b.got > b.length {
			b.fail(&AbortError{
				Code: wire.CodeProtocol, Message: "the body is longer than declared", cause: wire.ErrProtocol,
			}, false)
			continue
		}
		return n, nil
	}
	return 0, b.err
}

// next reads the header of the next frame, and the whole frame if it is the last; the caller holds mu.
func (b *body) next() {
	if b.lane != nil {
		b.segment()
		return
	}
	frame, err := b.r.Next()
	switch {
	case err != nil:
		if isFIN(err) {
			err = io.ErrUnexpectedEOF
		}
		b.fail(err, false)
	case frame == wire.FrameData:
		b.cur, b.inData = b.r, true
	case frame == wire.FrameEnd:
		b.end(b.r.End())
	case frame == wire.FrameMoved:
		if err := b.moved(); err != nil {
			b.fail(err, false)
		}
	default:
		b.fail(unexpected(frame, "in a body"), false)
	}
}

// end takes the end frame; the caller holds mu.
func (b *body) end(end wire.End, err error) {
	switch {
	case err != nil:
		b.fail(err, false)
	case end.Code != "":
		b.fail(&AbortError{Code: end.Code, Message: end.Message}, true)
	case b.length >= 0 && b.got != b.length:
		b.fail(&AbortError{
			Code: wire.CodeProtocol, Message: "the body is shorter than declared", cause: wire.ErrProtocol,
		}, false)
	default:
		b.trailer, b.err = end.Trailer, io.EOF
		b.ended(nil, true)
	}
}

// fail makes err the answer to every further Read. framed says that the peer ended its direction by the rules.
func (b *body) fail(err error, framed bool) {
	if b.own != nil {
		if fault := b.own.fault(); fault != nil {
			err = fault // of which the lane's is the consequence
		}
	}
	abort := b.abort(err)
	b.err = abort
	if !framed {
		b.stream.Reset(laneReset(err))
		if b.lane != nil {
			b.lane.reset(laneReset(err))
			b.lane.leave()
		}
	}
	b.ended(abort, framed)
}

// quit ends what a moved body runs, when its reader has gone before the end; the caller holds mu.
func (b *body) quit() {
	if b.err != nil || b.lane == nil {
		return
	}
	b.err = errClosed
	b.lane.reset(tunnel.ResetCancelled)
	b.lane.leave()
}

// complete reports whether all bytes that were declared have been read and only the end frame is out; the caller
// holds mu.
func (b *body) complete() bool { return b.err == nil && b.length >= 0 && b.got == b.length }

// ready says no only between two frames of which none is here. The rest of a frame was sent with its beginning, the end of a body
// that is as long as declared is sent at once, and what a lane has is much and leaves by itself.
func (b *body) ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil || b.lane != nil || b.r.Buffered() > 0 || b.inData && b.cur.Rest() > 0 || b.complete()
}

// takeTrailer returns the trailer after io.EOF.
func (b *body) takeTrailer() wire.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trailer
}

// finished reads the FIN that follows the end frame: a transport takes a stream for ended only when its reader has seen
// that. It reports whether it came, and nothing else; it waits for closeTimeout at most.
func (b *body) finished() bool {
	_ = b.stream.SetReadDeadline(time.Now().Add(closeTimeout))
	_, err := b.after()
	return isFIN(err)
}

// after waits for what comes on the exchange's own stream after the end of the body.
func (b *body) after() (wire.FrameType, error) {
	if b.own == nil {
		return b.r.Next()
	}
	<-b.own.done
	return b.own.frame, b.own.err
}

// drain throws away what still comes, until the body ends; the caller holds mu. The peer must not wait on a window that
// nobody will open any more.
func (b *body) drain() {
	if b.err != nil {
		return
	}
	buf, giveBack := borrowChunk(copyChunk)
	defer giveBack()
	for b.err == nil {
		_, _ = b.read(buf)
	}
}

// isFIN tells the peer's FIN from the end of a link: a *tunnel.ClosedError may well have an io.EOF in its chain, that of
// the connection below, and must never pass for an orderly end.
func isFIN(err error) bool {
	return err == io.EOF //nolint:errorlint // the reason is above
}
