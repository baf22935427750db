package exchange

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Request is what Do sends.
type Request struct {
	Head wire.RequestHead
	// Body is read until io.EOF, in a goroutine, while the answer is already coming; nil: none. With
	// Head.ExpectContinue it is read only after an Interim 100. Any other error of Body breaks the request off with
	// wire.CodeClientAbort, and so do more or fewer bytes than Head.ContentLength.
	Body io.Reader
	// BodyDone, if set, is called once when Body is not read any more: perhaps only after Do, and after the answer's
	// Close, because nobody can end a Read of Body but its owner.
	BodyDone func()
	// Trailer, if set, is asked after Body's io.EOF.
	Trailer func() wire.Header
	// Moves, if set, lets large bodies move.
	Moves *Moves
	// Interim, if set, is given each informational answer in order, 100 too. An error of it ends the exchange.
	Interim func(wire.Interim) error
}

// Response is an answer whose head has arrived.
type Response struct {
	Head wire.ResponseHead
	// Body is never nil and must be closed, which frees the stream whatever has been read. After 101 it is the
	// connection.
	Body io.ReadCloser

	body *body
	conn *conn
}

// Trailer returns what came after the body; nil before Body returned io.EOF.
func (r *Response) Trailer() wire.Header { return r.body.takeTrailer() }

// Ready reports whether more of the body, or its end, is here or on its way: who passes the answer on has then no reason to send what
// it has got. It may say no although there is more. Not after 101.
func (r *Response) Ready() bool { return r.body.ready() }

// Upgraded returns the connection after 101.
func (r *Response) Upgraded() (Conn, bool) {
	if r.conn == nil {
		return nil, false
	}
	return r.conn, true
}

// call is one running Do and what is left of it until the answer's body is closed.
type call struct {
	stream  tunnel.Stream
	out     sender
	in      body
	release func() bool // detaches from the context
	moves   *Moves
	// sent says that the request's end frame has left.
	sent atomic.Bool
	// goOn is closed when the body may be read (100 Continue); over, when nobody wants it any more. Nil without a body.
	goOn, over chan struct{}
	isOver     atomic.Bool
	response   Response
}

// Do runs one exchange over a new stream of link and returns when the answer's head is there. ctx governs all of the
// exchange, to the end of the answer's body: when it ends, the stream is reset and the peer's handler learns of it.
// Every error is an *AbortError.
func Do(ctx context.Context, link Opener, req *Request) (*Response, error) {
	if err := checkRequest(req); err != nil {
		req.done()
		return nil, atEdge.abort(ctx, err)
	}
	stream, err := link.Open(ctx)
	if err != nil {
		req.done()
		return nil, atEdge.abort(ctx, err)
	}
	c := &call{stream: stream, out: sender{stream: stream, w: newWriter(stream)}}
	if req.Body != nil {
		c.goOn, c.over = make(chan struct{}), make(chan struct{})
	}
	c.release = context.AfterFunc(ctx, func() { stream.Reset(tunnel.ResetCancelled) })
	c.in = body{
		stream: stream, side: atEdge, ctx: ctx, ended: c.ended, r: newReader(stream),
		moves: req.Moves, direction: download, key: bodyKey{req.Head.Generation, req.Head.Exchange},
	}
	c.moves = req.Moves
	c.moves.begin(c.in.key)
	if err := c.send(ctx, req); err != nil {
		c.stop(tunnel.ResetCancelled)
		return nil, atEdge.abort(ctx, err)
	}
	resp, err := c.receive(req)
	if err != nil {
		c.stop(laneReset(err))
		return nil, atEdge.abort(ctx, err)
	}
	return resp, nil
}

func (r *Request) done() {
	if r.Body != nil && r.BodyDone != nil {
		r.BodyDone()
	}
}

func checkRequest(req *Request) error {
	if req.Body == nil && req.Head.ContentLength != 0 {
		return fmt.Errorf("a content length and no body: %w", wire.ErrProtocol)
	}
	if req.Head.Upgrade != "" && req.Body != nil {
		return fmt.Errorf("an upgrade with a body: %w", wire.ErrProtocol)
	}
	return req.Head.Validate()
}

// send writes the head, and the end frame of a request without a body in the same write; a body goes on in a goroutine.
// The FIN waits for the end of the answer: until then a reset of this stream tells the peer that nobody wants it.
func (c *call) send(ctx context.Context, req *Request) error {
	ends := req.Body == nil && req.Head.Upgrade == ""
	// An expected 100 or an upgrade has to be asked for before anything else can happen.
	now := req.Body == nil || req.Head.ExpectContinue
	err := c.out.put(now, func(w *wire.Writer) error {
		w.Kind(wire.StreamExchange)
		if err := w.RequestHead(&req.Head); err != nil {
			return err
		}
		if ends {
			return w.End(&wire.End{})
		}
		return nil
	})
	switch {
	case err != nil:
		req.done()
	case ends:
		c.sent.Store(true)
	case req.Body != nil:
		go c.upload(ctx, req)
	}
	return err
}

// receive reads up to the answer's head.
func (c *call) receive(req *Request) (*Response, error) {
	for interims := 0; ; {
		frame, err := c.in.r.Next()
		if err != nil {
			return nil, err
		}
		switch frame {
		case wire.FrameInterim:
			if interims++; interims > maxInterims {
				return nil, fmt.Errorf("more than %d interim answers: %w", maxInterims, wire.ErrProtocol)
			}
			if err := c.interim(req); err != nil {
				return nil, err
			}
		case wire.FrameResponseHead:
			head, err := c.in.r.ResponseHead()
			if err != nil {
				return nil, err
			}
			return c.respond(req, head)
		case wire.FrameEnd:
			end, err := c.in.r.End()
			if err != nil {
				return nil, err
			}
			if end.Code == "" {
				return nil, unexpected(frame, "before the head")
			}
			return nil, &AbortError{Code: end.Code, Message: end.Message}
		default:
			return nil, unexpected(frame, "before the head")
		}
	}
}

func (c *call) interim(req *Request) error {
	interim, err := c.in.r.Interim()
	if err != nil {
		return err
	}
	if req.Interim != nil {
		// Before the body is read: who passes the 100 on is to do so once, and in its turn.
		if err := req.Interim(interim); err != nil {
			return err
		}
	}
	if interim.Status == 100 && c.goOn != nil {
		select {
		case <-c.goOn:
		default:
			close(c.goOn)
		}
	}
	return nil
}

func (c *call) respond(req *Request, head wire.ResponseHead) (*Response, error) {
	resp := &c.response
	resp.Head, resp.body = head, &c.in
	if head.Status == 101 {
		if !strings.EqualFold(head.Upgrade, req.Head.Upgrade) {
			return nil, fmt.Errorf("an upgrade that was not asked for: %w", wire.ErrProtocol)
		}
		c.in.length, c.in.moves = -1, nil
		resp.conn = &conn{stream: c.stream, in: &c.in, out: &c.out, left: c.switchedOff}
		c.in.ended = resp.conn.inEnded
		resp.Body = resp.conn
		return resp, nil
	}
	if req.Head.Upgrade != "" {
		if err := c.out.put(true, func(w *wire.Writer) error { return w.End(&wire.End{}) }); err != nil {
			return nil, err
		}
		c.sent.Store(true)
	}
	c.in.length = head.ContentLength
	if bodyless(req.Head.Method, head.Status) {
		c.in.length = 0
	}
	resp.Body = (*answerBody)(c)
	return resp, nil
}

// bodyless says that an answer has no body whatever length its head declares (RFC 9110 §6.4.1).
func bodyless(method string, status int) bool {
	return method == "HEAD" || status == 204 || status == 304
}

// ended is the ended function of the answer's body: with the answer whole, the request is over too, sent or not.
func (c *call) ended(_ error, framed bool) {
	defer c.in.retire()
	if framed && c.sent.Load() && c.stream.CloseWrite() == nil && c.in.finished() {
		c.finish()
		c.out.retire()
		return
	}
	c.stop(tunnel.ResetCancelled)
}

// switchedOff is called when both directions of an upgraded connection have ended, or it was abandoned.
func (c *call) switchedOff(whole bool) {
	if !whole || !c.in.finished() {
		c.stream.Reset(tunnel.ResetCancelled)
	}
	c.finish()
}

// stop gives the stream up; it does nothing to one that has ended.
func (c *call) stop(code tunnel.ResetCode) {
	c.stream.Reset(code)
	c.out.giveUp(code)
	c.finish()
}

func (c *call) finish() {
	c.release()
	if c.isOver.CompareAndSwap(false, true) {
		c.moves.end(c.in.key)
		if c.over != nil {
			close(c.over)
		}
	}
}
