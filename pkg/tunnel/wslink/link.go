package wslink

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

const transportName = "websocket"

// Link is one WebSocket connection with a yamux session in it.
type Link struct {
	conf    Config
	dialled bool
	ws      *websocket.Conn
	conn    *conn
	// socket is the TCP connection under TLS. Closing it is the one thing that unblocks everything.
	socket  net.Conn
	tls     tls.ConnectionState
	session *yamux.Session
	ending  tunnel.Ending
	hold    tunnel.Hold
	outbox  outbox
	watcher *watcher
	rtt     atomic.Int64
	// congestion is the socket's congestion control, "" where it is not known.
	congestion string
	inner      *Inner // what this side dialled through, where that is not socket's own TCP connection; else nil

	incoming *waiting
	// opening serialises OpenStream, so that ids appear in order; slots bounds what this side has open.
	opening chan struct{}
	slots   chan struct{}

	mu sync.Mutex
	// streams are those that have not ended, by yamux's id; taken counts the peer's among them.
	streams map[uint32]*stream
	taken   int
	// resets came on the control stream before their stream was accepted here; last is the newest id accepted.
	resets  map[uint32]tunnel.ResetCode
	last    uint32
	control *yamux.Stream
	// arrivals are streams of the peer that yamux has or is about to have, notices bytes on the control stream.
	arrivals, notices errand
	// first rouses who reads firstStream.
	first rouser
	// sending is set while a goroutine writes what is in the outbox.
	sending bool
	// over is set when the link has ended: streams takes no more, and no goroutine is begun.
	over bool

	goroutines sync.WaitGroup
	// finished is closed when the TCP connection is closed and the goroutines are done.
	finished chan struct{}
}

var (
	_ tunnel.Link     = (*Link)(nil)
	_ tunnel.Measured = (*Link)(nil)
)

// newLink takes over ws, which runs over out over socket, and starts the session.
func newLink(ws *websocket.Conn, out *outlet, socket net.Conn, state tls.ConnectionState, conf Config, dialled bool) (*Link, error) {
	ws.SetReadLimit(maxMessage)
	l := &Link{
		conf: conf, dialled: dialled, ws: ws, socket: socket, tls: state,
		incoming: newWaiting(),
		opening:  make(chan struct{}, 1),
		slots:    make(chan struct{}, conf.MaxOutgoing),
		streams:  make(map[uint32]*stream),
		resets:   make(map[uint32]tunnel.ResetCode),
		finished: make(chan struct{}),
	}
	l.conn = &conn{
		ws: ws, out: out, take: l.take, done: l.ending.Done(), inside: make(chan struct{}, 1), began: time.Now(),
		pings: rate.NewLimiter(pingsPerSecond, pingsAtOnce), broken: func(err error) { l.fail(closedError(err)) },
		begun: l.begun, closed: func() { l.arrive(endless) },
	}
	l.conn.pending = l.conn.header[:0]
	if err := l.begin(); err != nil {
		_ = socket.Close()
		return nil, err
	}
	if dialled {
		l.during(l.openControl)
	}
	return l, nil
}

// begin starts the session. It holds mu because what the session finds at once must not end a link that is half made.
func (l *Link) begin() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notices.busy, l.arrivals.busy = true, l.dialled // until there is a control stream
	if l.dialled {
		l.opening <- struct{}{} // until openControl has, whose stream must be the first
		// A connector takes a stream for each exchange, and has few links: there one goroutine stays for all.
		l.arrivals.due = endless
		l.session, err = yamux.Client(l.conn, l.conf.yamux())
	} else {
		l.session, err = yamux.Server(l.conn, l.conf.yamux())
	}
	if err == nil {
		l.watcher = watch(l)
	}
	return err
}

// during runs f in a goroutine that finish waits for, unless the link has ended.
func (l *Link) during(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.goroutines.Go(f)
	}
}

// finish undoes the link once it has ended, until nothing of it is left.
func (l *Link) finish() {
	defer close(l.finished)
	l.interruptStreams()
	l.watcher.stop()
	l.closeConnection(l.ending.Closed())
	_ = l.session.Close() // cannot block: both of its goroutines are off the closed connection
	l.goroutines.Wait()
}

// sessionEnded ends the link because of err. A write that fails after the peer has closed is found before its close frame
// is read, so the reader gets a moment to report what it finds.
func (l *Link) sessionEnded(err error) {
	if l.session.IsClosed() && !brokeRules(err) {
		l.interruptStreams()
		moment := time.NewTimer(closeLimit)
		defer moment.Stop()
		select {
		case <-l.ending.Done():
		case <-moment.C:
		}
	}
	l.fail(closedError(err))
}

// closeConnection tells the peer the cause, if it is ours to tell, and closes the TCP connection. The closing handshake
// (RFC 6455 §7.1.2) matters: closing with unread bytes in the receive buffer sends a TCP reset, which can destroy the
// close frame in the peer's. It is bounded, because a blackholed peer never answers.
func (l *Link) closeConnection(cause *tunnel.ClosedError) {
	tell := !cause.Remote && cause.Reason.Code != tunnel.ReasonLost && cause.Reason.Code != tunnel.ReasonTimeout
	if tell {
		limit := time.AfterFunc(closeLimit, func() { _ = l.socket.Close() })
		l.conn.leave()
		code, text := cause.Reason.Wire()
		_ = l.ws.Close(websocket.StatusCode(code), text)
		limit.Stop()
	}
	_ = l.socket.Close()
	_ = l.ws.CloseNow()
}

// fail ends the link for cause, unless it has ended already. It never blocks.
func (l *Link) fail(cause *tunnel.ClosedError) {
	if l.ending.End(cause) {
		go l.finish()
	}
}

// take counts what the peer sends before Admit, yamux's own bytes included.
func (l *Link) take(n int) error {
	if l.hold.Bytes(n) {
		return nil
	}
	l.fail(&tunnel.ClosedError{Reason: l.hold.Exceeded()})
	return l.ending.Cause()
}

// Admit implements tunnel.Link.
func (l *Link) Admit() {
	l.hold.Admit()
	l.shrink()
	if l.conf.Admitted != nil {
		l.conf.Admitted()
	}
}

// shrink gives back what streams hold for bytes that have been read: admission says more than an idle link does ever after.
func (l *Link) shrink() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		s.yamux.Shrink()
	}
}

// Export implements tunnel.Link.
func (l *Link) Export(label string, binding []byte, length int) ([]byte, error) {
	return l.tls.ExportKeyingMaterial(label, binding, length)
}

// Close implements tunnel.Link.
func (l *Link) Close(reason tunnel.Reason) error {
	l.fail(&tunnel.ClosedError{Reason: reason})
	limit := time.NewTimer(closeLimit + closeLimit/4)
	defer limit.Stop()
	select {
	case <-l.finished:
	case <-limit.C:
	}
	return nil
}

// Done implements tunnel.Link.
func (l *Link) Done() <-chan struct{} { return l.ending.Done() }

// Cause implements tunnel.Link.
func (l *Link) Cause() error { return l.ending.Cause() }

// Info implements tunnel.Link.
func (l *Link) Info() tunnel.Info {
	return tunnel.Info{
		Transport:  transportName,
		Local:      l.socket.LocalAddr(),
		Remote:     l.socket.RemoteAddr(),
		RTT:        time.Duration(l.rtt.Load()),
		Congestion: l.congestion,
		Inside:     l.inner != nil,
		OpenedBy:   l.inner.OpenedBy(l.tls),
	}
}

// Path implements tunnel.Measured.
func (l *Link) Path() tunnel.Path {
	smoothed, least, acked := measure(l.socket)
	return tunnel.Path{Latest: smoothed, Least: least, Sent: acked}
}

// Probe implements tunnel.Measured: the acknowledgements of what is sent, and pings, are all that TCP shows.
func (l *Link) Probe() {}

// Accept implements tunnel.Link.
func (l *Link) Accept(ctx context.Context) (tunnel.Stream, error) {
	select {
	case <-l.ending.Done():
		return nil, l.ending.Cause()
	default:
	}
	for {
		select {
		case <-l.incoming.any:
			if s := l.incoming.take(); s != nil {
				return s, nil
			}
		case <-l.ending.Done():
			return nil, l.ending.Cause()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
