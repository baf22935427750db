package exchange

import (
	"io"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// copyChunk is how much of a body is read at a time, in bytes.
const copyChunk = 32 << 10

// upload sends the request's body and its end frame. Errors of the stream are left to the reader of the answer, who
// meets them too; errors of the body become an end frame with a code, and the peer answers as it likes.
func (c *call) upload(req *Request) {
	defer req.done()
	if req.Head.ExpectContinue {
		select {
		case <-c.goOn:
		case <-c.over:
			return
		}
	}
	end, err := c.copyBody(req)
	if err != nil {
		return
	}
	if err := c.out.put(true, func(w *wire.Writer) error { return w.End(&end) }); err != nil {
		if end.Code != "" {
			return
		}
		// The trailer may not travel: the peer must not take the body for whole.
		c.out.abort(wire.CodeClientAbort, "")
	}
	c.sent.Store(true)
}

// copyBody sends the body and returns the frame that ends it; an error is one of the stream.
func (c *call) copyBody(req *Request) (wire.End, error) {
	left := req.Head.ContentLength
	size := int64(copyChunk)
	if left >= 0 {
		// One more than declared: what is too long shows in the same read.
		size = min(size, left+1)
	}
	buf, giveBack := borrowChunk(size)
	defer giveBack()
	for {
		n, err := req.Body.Read(buf)
		if left >= 0 && int64(n) > left {
			return wire.End{Code: wire.CodeClientAbort, Message: "the request is longer than declared"}, nil
		}
		if n > 0 {
			if left >= 0 {
				left -= int64(n)
			}
			if _, werr := c.out.write(buf[:n], false); werr != nil {
				return wire.End{}, werr
			}
		}
		switch {
		case err == nil:
		case err != io.EOF:
			return wire.End{Code: wire.CodeClientAbort, Message: "the request broke off"}, nil
		case left > 0:
			return wire.End{Code: wire.CodeClientAbort, Message: "the request is shorter than declared"}, nil
		case req.Trailer != nil:
			return wire.End{Trailer: req.Trailer()}, nil
		default:
			return wire.End{}, nil
		}
	}
}
