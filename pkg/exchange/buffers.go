package exchange

import (
	"io"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Exchanges lend each other the buffers of their readers and writers, a fifth of all that a small request allocates. An
// exchange gives its buffers back where nothing can use them any more, and where that is not sure (it was broken off,
// somebody is still reading) leaves them to the collector. Nothing but memory passes from one exchange to the next.
var (
	readers sync.Pool // of *wire.Reader
	writers sync.Pool // of *wire.Writer
	chunks  sync.Pool // of *[copyChunk]byte
	blocks  sync.Pool // of *block
)

// blockData is how many bytes of a moved body travel in one segment: with its header that fills one frame of a WebSocket
// link, and that four records of TLS, to the last byte.
const blockData = 64<<10 - 20 - wire.SegmentHeaderSize

// block is a segment in the making: room for its header, and bytes behind it, so that both leave in one Write.
type block struct {
	n   int
	buf [wire.SegmentHeaderSize + blockData]byte
}

func borrowBlock() *block {
	if kept, ok := blocks.Get().(*block); ok {
		kept.n = 0
		return kept
	}
	return new(block)
}

func (b *block) giveBack() {
	if b != nil {
		blocks.Put(b)
	}
}

// space is where its bytes go.
func (b *block) space() []byte { return b.buf[wire.SegmentHeaderSize:] }

// place writes the header.
func (b *block) place(offset uint64) { wire.PutSegmentHeader(b.buf[:], offset, b.n) }

func (b *block) frame() []byte { return b.buf[:wire.SegmentHeaderSize+b.n] }

// borrowChunk returns a buffer of size bytes, at most copyChunk, and what gives it back.
func borrowChunk(size int64) (buf []byte, giveBack func()) {
	if size <= copyChunk/8 {
		return make([]byte, size), func() {}
	}
	kept, ok := chunks.Get().(*[copyChunk]byte)
	if !ok {
		kept = new([copyChunk]byte)
	}
	return kept[:size], func() { chunks.Put(kept) }
}

func newReader(r io.Reader) *wire.Reader {
	if kept, ok := readers.Get().(*wire.Reader); ok {
		kept.Reset(r)
		return kept
	}
	return wire.NewReader(r)
}

func newWriter(w io.Writer) *wire.Writer {
	if kept, ok := writers.Get().(*wire.Writer); ok {
		kept.Reset(w)
		return kept
	}
	return wire.NewWriter(w)
}

// retire gives the reader back; the caller holds mu, and err is set, so that nobody reads again.
func (b *body) retire() {
	if b.r == nil || b.err == nil || b.own != nil && !b.own.over() {
		return
	}
	b.r.Reset(nil)
	readers.Put(b.r)
	b.r = nil
}

// retire gives the writer back, unless somebody is still writing. Whoever comes later is told that the exchange is over.
func (s *sender) retire() {
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.w == nil || s.w.Buffered() > 0 {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.armed = false
	s.w.Reset(nil)
	writers.Put(s.w)
	s.w = nil
}
