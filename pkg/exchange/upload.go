package exchange

import (
	"context"
	"io"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// copyChunk is how much of a body is read at a time, in bytes.
const copyChunk = 32 << 10

// upload sends the request's body and its end frame. Errors of the stream are left to the reader of the answer, who
// meets them too; errors of the body become an end frame with a code, and the peer answers as it likes.
func (c *call) upload(ctx context.Context, req *Request) {
	move := newMover(req.Moves, upload, &req.Head)
	defer c.settle(&move)
	defer req.done()
	if req.Head.ExpectContinue {
		select {
		case <-c.goOn:
		case <-c.over:
			return
		}
	}
	end, err := c.copyBody(ctx, req, &move)
	if err != nil {
		return
	}
	if err := c.out.end(&end); err != nil {
		if end.Code != "" {
			return
		}
		// The trailer may not travel: the peer must not take the body for whole.
		c.out.abort(wire.CodeClientAbort, "")
	}
	c.sent.Store(true)
}

// settle frees what a moved body used, and once the exchange is over its slot.
func (c *call) settle(move *mover) {
	move.giveUp()
	c.out.settle()
	if move.entered {
		<-c.over
		move.exit()
	}
}

// copyBody sends the body and returns the frame that ends it; an error is one of the stream.
func (c *call) copyBody(ctx context.Context, req *Request, move *mover) (wire.End, error) {
	left, sent := req.Head.ContentLength, int64(0)
	move.declared(left)
	if left > 0 { // declared as large, it need not be read first
		move.step(ctx, &c.out, 0, 1)
	}
	var f filler
	defer f.close()
	for {
		limit := int64(never)
		if left >= 0 {
			limit = left + 1 // one more than declared: what is too long shows in the same read
		}
		n, err := req.Body.Read(f.space(&c.out, limit))
		if left >= 0 && int64(n) > left {
			return wire.End{Code: wire.CodeClientAbort, Message: "the request is longer than declared"}, nil
		}
		if n > 0 {
			if left >= 0 {
				left -= int64(n)
			}
			for from := 0; from < n; {
				part := move.step(ctx, &c.out, sent, n-from)
				if _, werr := f.send(&c.out, from, from+part); werr != nil {
					return wire.End{}, werr
				}
				from, sent = from+part, sent+int64(part)
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
