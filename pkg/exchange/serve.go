package exchange

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Handler answers exchanges.
type Handler interface {
	// ServeExchange answers in with out: Head, bytes, then End or Abort; or Upgrade. ctx ends when the peer gives
	// the exchange up, the link ends, or ServeExchange returns. Neither in nor out may be used after it returned.
	// The methods of out may be called from several goroutines.
	ServeExchange(ctx context.Context, in *Incoming, out *Answer)
}

// Incoming is a request whose head has arrived and kept the rules of package wire. Nobody has judged it.
type Incoming struct {
	Head wire.RequestHead
	// Body is never nil. With Head.ExpectContinue its first Read sends an Interim 100 if nothing else was sent yet.
	Body io.Reader

	body *body
}

// Trailer returns what came after the body; nil before Body returned io.EOF.
func (in *Incoming) Trailer() wire.Header {
	if in.body == nil {
		return nil
	}
	return in.body.takeTrailer()
}

// PanicError is what Serve returns when the handler panicked. The exchange was aborted, the process goes on.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("exchange handler panicked: %v", e.Value) }

// served is one running Serve.
type served struct {
	stream  tunnel.Stream
	request Incoming
	in      body
	out     Answer
	ctx     context.Context // the handler's: moved bodies end with it
	cancel  context.CancelCauseFunc
	// framed says that the request ended by the rules; watching is then done when the peer has let the stream go.
	framed   atomic.Bool
	watching sync.WaitGroup
}

// Serve answers the exchange on s, of which the kind byte has been read, and returns when both directions have ended.
// When ctx ends, the stream is reset. No body moves. The error says why the exchange was not carried to its end: an *AbortError or a
// *PanicError, for the log; the peer knows already. It never means that the link is broken.
func Serve(ctx context.Context, s tunnel.Stream, h Handler) error {
	return ServeMoving(ctx, s, h, nil)
}

// ServeMoving is Serve for a peer with which large bodies may move.
func ServeMoving(ctx context.Context, s tunnel.Stream, h Handler, moves *Moves) error {
	// The end of the link may be known here before the peer learns of it.
	stop := context.AfterFunc(ctx, func() { s.Reset(laneReset(context.Cause(ctx))) })
	defer stop()
	x := &served{stream: s}
	r := newReader(s)
	if err := x.readHead(r); err != nil {
		s.Reset(resetFor(err))
		return atConnector.abort(ctx, err)
	}
	handling, cancel := context.WithCancelCause(ctx)
	x.cancel = cancel
	defer cancel(nil)
	x.in = body{
		stream: s, side: atConnector, ctx: ctx, ended: x.ended, r: r, length: x.request.Head.ContentLength,
		moves: moves, direction: upload, key: bodyKey{x.request.Head.Generation, x.request.Head.Exchange},
	}
	moves.begin(x.in.key) // without a body, too: bulk yields to every exchange that runs
	defer moves.end(x.in.key)
	x.ctx = handling
	x.out = Answer{x: x, send: sender{stream: s, w: newWriter(s)}, move: newMover(moves, download, &x.request.Head)}
	x.incoming()
	if !x.framed.Load() {
		defer x.startProbe(handling).Stop()
	}
	err := x.handle(handling, h)
	cancel(nil)
	x.settle()
	x.retire()
	if err != nil {
		return err
	}
	return x.out.outcome(context.Cause(handling))
}

func (x *served) readHead(r *wire.Reader) error {
	if err := x.stream.SetReadDeadline(time.Now().Add(headTimeout)); err != nil {
		return err
	}
	frame, err := r.Next()
	if err != nil {
		return err
	}
	if frame != wire.FrameRequestHead {
		return unexpected(frame, "instead of a request head")
	}
	if x.request.Head, err = r.RequestHead(); err != nil {
		return err
	}
	return x.stream.SetReadDeadline(time.Time{})
}

// incoming prepares what the handler sees of the request. Where no body is to come, the end frame is left to a watcher,
// so that the handler waits for nothing.
func (x *served) incoming() {
	in := &x.request
	switch {
	case x.request.Head.Upgrade != "":
		in.Body = nothing{}
	case x.request.Head.ContentLength == 0:
		in.Body, in.body = nothing{}, &x.in
		x.end(true)
	case x.request.Head.ExpectContinue:
		in.Body, in.body = &expected{body: &x.in, out: &x.out}, &x.in
	default:
		in.Body, in.body = &x.in, &x.in
	}
}

// handle runs the handler. A panic ends one exchange, not the process with everybody else's (attack case E12).
func (x *served) handle(ctx context.Context, h Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
			x.out.breakOff(wire.CodeInternal, "")
		}
	}()
	h.ServeExchange(ctx, &x.request, &x.out)
	x.out.breakOff(wire.CodeInternal, "the handler returned without an end") // nothing, if there was one
	return nil
}

// ended is the ended function of the request's body.
func (x *served) ended(cause error, framed bool) {
	if cause != nil {
		x.cancel(cause)
	}
	if framed {
		x.end(false)
	}
}

// end notes that the request has ended by the rules, and has the stream watched.
func (x *served) end(withEnd bool) {
	x.watching.Add(1) // before settle may find framed set
	x.framed.Store(true)
	go x.watch(withEnd)
}

// watch waits, after the request has ended, for the peer to let the stream go: with a FIN when it has all of the
// answer, or with a reset when it no longer wants it. withEnd: the end frame is still to come.
func (x *served) watch(withEnd bool) {
	defer x.watching.Done()
	frame, err := x.in.after()
	if withEnd && err == nil && frame == wire.FrameEnd {
		var end wire.End
		if end, err = x.in.r.End(); err == nil && end.Code != "" {
			err = &AbortError{Code: end.Code, Message: end.Message}
		}
		if err == nil {
			frame, err = x.in.r.Next()
		}
	}
	if isFIN(err) {
		return
	}
	if err == nil {
		err = unexpected(frame, "after the end of a request")
	}
	x.cancel(x.in.abort(err))
	x.stream.Reset(resetFor(err))
}

// startProbe finds out that the peer gave up while the request's body is not finished and the handler may be busy with
// something else than reading it. After the end of the body, watch does that. ctx ends with the handler.
func (x *served) startProbe(ctx context.Context) *time.Timer {
	var timer *time.Timer
	start := make(chan struct{})
	timer = time.AfterFunc(probeEvery, func() {
		<-start
		if x.framed.Load() || ctx.Err() != nil || x.out.upgraded.Load() {
			return
		}
		if err := x.out.send.probe(); err != nil {
			x.cancel(x.in.abort(err))
			return
		}
		timer.Reset(probeEvery)
	})
	close(start)
	return timer
}

// settle ends the stream after the handler has returned. What is left of the request is thrown away until the peer has
// read the answer and lets the stream go: it must not wait on a window that nobody will open any more, nor lose the
// answer's last bytes to a reset.
func (x *served) settle() {
	defer x.out.settle()
	x.out.closeConn()
	if !x.framed.Load() {
		x.in.closed.Store(true)
		x.in.mu.Lock() // a Read that the handler left behind
		x.in.drain()
		x.in.mu.Unlock()
	}
	x.watching.Wait()
}

// retire gives the buffers back after settle: the watcher has ended, and a handler's goroutine that still reads is refused.
func (x *served) retire() {
	x.in.closed.Store(true)
	x.in.mu.Lock()
	if x.in.err == nil {
		x.in.err = errClosed
	}
	x.in.retire()
	x.in.mu.Unlock()
	x.out.send.retire()
}

// nothing is the body of a request that has none.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// expected is the body of a request whose client waits for 100 Continue.
type expected struct {
	*body
	out  *Answer
	sent atomic.Bool
}

func (e *expected) Read(p []byte) (int, error) {
	if !e.sent.Swap(true) {
		if err := e.out.goOn(); err != nil {
			return 0, err
		}
	}
	return e.body.Read(p)
}
