package exchange

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Answer is how a handler answers: any number of Interim, then Head, bytes and End, or Abort at any time; or Upgrade.
// Bytes leave by themselves after some milliseconds, or at once with Flush. A write blocks while the peer does not
// read; it ends with an error when the exchange does.
type Answer struct {
	x    *served
	send sender
	// upgraded is read without mu, which a blocked write holds.
	upgraded atomic.Bool

	// mu keeps the order of calls; it is held during writes.
	mu       sync.Mutex
	state    answerState
	interims int
	goneOn   bool // an Interim 100 was sent
	length   int64
	wrote    int64
	move     mover
	noBody   bool
	aborted  *AbortError
	failed   error // of the stream
	whole    bool  // the end frame left
	conn     *conn
}

var _ io.ReaderFrom = (*Answer)(nil)

type answerState int

const (
	beforeHead answerState = iota
	inBody
	switched // an upgrade took over
	done
)

func misuse(what string) error { return fmt.Errorf("exchange answer: %s", what) }

// Interim sends an informational answer at once.
func (a *Answer) Interim(i wire.Interim) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.interim(&i)
}

func (a *Answer) interim(i *wire.Interim) error {
	if a.state != beforeHead {
		return misuse("interim after the head")
	}
	if a.interims == maxInterims {
		return misuse("too many interim answers")
	}
	a.interims++
	a.goneOn = a.goneOn || i.Status == 100
	return a.put(true, func(w *wire.Writer) error { return w.Interim(i) })
}

// goOn sends the 100 that the client waits for, unless the handler did or has answered already.
func (a *Answer) goOn() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.goneOn || a.state != beforeHead {
		return nil
	}
	return a.interim(&wire.Interim{Status: 100})
}

// Head sends the head. An error that is wire.ErrProtocol says that this head may not travel and that nothing was sent:
// the handler may answer with another one.
func (a *Answer) Head(h wire.ResponseHead) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != beforeHead || h.Status == 101 {
		return misuse("head out of turn")
	}
	if err := a.put(false, func(w *wire.Writer) error { return w.ResponseHead(&h) }); err != nil {
		return err
	}
	a.state, a.length = inBody, h.ContentLength
	a.noBody = bodyless(a.x.request.Head.Method, h.Status)
	a.move.declared(h.ContentLength)
	return nil
}

// Write sends bytes of the body. More than Head declared, or any where there is no body, aborts the answer: the peer
// must not take a part for the whole.
func (a *Answer) Write(p []byte) (int, error) {
	return a.write(len(p), func(from, to int) (int, error) { return a.send.write(p[from:to], false) })
}

// write sends n bytes of the body by send, which is given the part that is to go.
func (a *Answer) write(n int, send func(from, to int) (int, error)) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != inBody {
		return 0, a.outOfTurn("write")
	}
	if n == 0 {
		return 0, nil
	}
	if a.noBody || a.length >= 0 && int64(n) > a.length-a.wrote {
		return 0, a.abort(wire.CodeOriginProtocol, "the answer is longer than declared")
	}
	for from := 0; from < n; {
		part := a.move.step(a.x.ctx, &a.send, a.wrote, n-from)
		sent, err := send(from, from+part)
		from, a.wrote = from+sent, a.wrote+int64(sent)
		if err != nil {
			return from, a.fail(err)
		}
	}
	return n, nil
}

// ReadFrom writes what src gives until its io.EOF, for io.Copy. Its buffer is no larger than what Head declared.
func (a *Answer) ReadFrom(src io.Reader) (int64, error) {
	var f filler
	defer f.close()
	var total int64
	for {
		n, err := src.Read(f.space(&a.send, a.limit()))
		if n > 0 {
			written, werr := a.write(n, func(from, to int) (int, error) { return f.send(&a.send, from, to) })
			total += int64(written)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// limit is how much may be read for the body: one more than declared, so that what is too long shows in the same read.
func (a *Answer) limit() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.length < 0 {
		return never
	}
	return max(a.length-a.wrote, 0) + 1
}

// Flush sends what is still held back.
func (a *Answer) Flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.send.flush(); err != nil {
		return a.fail(err)
	}
	return nil
}

// End ends the body: whole if it is as long as declared, else as an abort, which it then returns.
func (a *Answer) End(trailer wire.Header) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != inBody {
		return a.outOfTurn("end")
	}
	if !a.noBody && a.length >= 0 && a.wrote != a.length {
		return a.abort(wire.CodeOriginAbort, "the answer is shorter than declared")
	}
	end := wire.End{Trailer: trailer}
	if err := end.Validate(); err != nil {
		return a.abort(wire.CodeOriginProtocol, "the trailer is not allowed")
	}
	a.state = done
	if err := a.send.end(&end); err != nil {
		if errors.Is(err, wire.ErrProtocol) {
			return a.abort(wire.CodeOriginProtocol, "the trailer is too long")
		}
		return a.fail(err)
	}
	a.whole = true
	return a.x.stream.CloseWrite()
}

// Abort breaks the answer off; before Head it stands for the answer, and after Upgrade it is how the peer learns why the
// connection broke. It does nothing after End or Abort, and takes at most some seconds even if the peer does not read.
func (a *Answer) Abort(code, message string) {
	if a.breakOff(code, message) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == switched {
		a.state, a.aborted = done, &AbortError{Code: code, Message: message}
		a.conn.abort(code, message)
	}
}

// Cancel ends the handler's context for cause. The answer stays the handler's to end, and the peer learns nothing by it.
func (a *Answer) Cancel(cause error) { a.x.cancel(cause) }

// breakOff is Abort of what has not been upgraded; false if it was.
func (a *Answer) breakOff(code, message string) bool {
	// A Write that is blocked holds mu: let it go first.
	if !a.mu.TryLock() {
		a.send.abort(code, message)
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	if a.state == beforeHead || a.state == inBody {
		_ = a.abort(code, message)
	}
	return a.state != switched
}

func (a *Answer) abort(code, message string) error {
	a.state = done
	a.aborted = &AbortError{Code: code, Message: message}
	a.send.abort(code, message)
	_ = a.x.stream.CloseWrite()
	return a.aborted
}

// Upgrade answers 101 and returns the connection. Like out itself, it ends with the handler.
func (a *Answer) Upgrade(h wire.ResponseHead) (Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != beforeHead || h.Status != 101 || !strings.EqualFold(h.Upgrade, a.x.request.Head.Upgrade) {
		return nil, misuse("an upgrade that was not asked for, or out of turn")
	}
	if err := a.put(true, func(w *wire.Writer) error { return w.ResponseHead(&h) }); err != nil {
		return nil, err
	}
	a.state = switched
	a.upgraded.Store(true)
	a.x.in.length, a.x.in.moves = -1, nil
	a.conn = &conn{stream: a.x.stream, in: &a.x.in, out: &a.send, left: func(whole bool) {
		if !whole {
			a.x.stream.Reset(tunnel.ResetCancelled)
		}
	}}
	ended := a.x.in.ended
	a.x.in.ended = func(cause error, framed bool) {
		a.conn.inEnded(cause, framed)
		ended(cause, framed)
	}
	return a.conn, nil
}

// settle ends what is left of a moved body when the exchange is over.
func (a *Answer) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.move.giveUp()
	a.send.settle()
	a.move.exit()
}

// closeConn abandons an upgraded connection that the handler left open.
func (a *Answer) closeConn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.Close()
	}
}

// put passes errors of the rules on as they are; nothing was sent then.
func (a *Answer) put(flush bool, f func(*wire.Writer) error) error {
	err := a.send.put(flush, f)
	if err != nil && !errors.Is(err, wire.ErrProtocol) {
		return a.fail(err)
	}
	return err
}

// fail notes that the stream is broken and tells the handler's other goroutines.
func (a *Answer) fail(err error) error {
	abort := a.x.in.abort(err)
	a.failed = abort
	a.x.cancel(abort)
	return abort
}

func (a *Answer) outOfTurn(what string) error {
	if a.aborted != nil {
		return a.aborted
	}
	return misuse(what + " out of turn")
}

// outcome says how the exchange ended: nil if the answer went out whole.
func (a *Answer) outcome(cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole {
		return nil
	}
	if abort, ok := errors.AsType[*AbortError](cause); ok { // before what the handler made of it
		return abort
	}
	switch {
	case a.aborted != nil:
		return a.aborted
	case a.failed != nil:
		return a.failed
	}
	return nil
}
