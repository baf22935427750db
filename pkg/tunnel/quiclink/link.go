package quiclink

import (
	"context"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
)

const (
	transportName = "quic"
	// closeLimit bounds Close.
	closeLimit = time.Second
)

// Link is one QUIC connection.
type Link struct {
	conn   *quic.Conn
	conf   Config
	ending tunnel.Ending
	hold   tunnel.Hold
	// first hands over what the peer opened while the link was held, one stream; unheld is closed when that is over.
	first  chan *stream
	unheld chan struct{}
	admit  func()
	// turn holds a token: one Accept at a time waits for the peer.
	turn chan struct{}
	// open counts the peer's streams that have not ended.
	open atomic.Int64
	// began is when the link was made, read how long after that a stream gave bytes last.
	began   time.Time
	read    atomic.Int64
	watcher *watcher
	// repairs is its socket's; nil where packets are not repaired.
	repairs *fec.Socket
	// together is for the streams that this side opens.
	together together
	// probing says that a probe waits to be sent.
	probing atomic.Bool
	// release frees what only this link uses; nil for a link that shares its listener's socket.
	release func()
	// finished is closed when nothing of the link is left and release has run.
	finished chan struct{}
}

var (
	_ tunnel.Link      = (*Link)(nil)
	_ tunnel.Measured  = (*Link)(nil)
	_ tunnel.Certified = (*Link)(nil)
	_ tunnel.Repaired  = (*Link)(nil)
)

// newLink makes a link of a connection; entered is called when it is admitted.
func newLink(conn *quic.Conn, conf Config, repairs *fec.Socket, entered, release func()) *Link {
	l := &Link{
		conn: conn, conf: conf, repairs: repairs, release: release,
		first: make(chan *stream, tunnel.HeldStreams), unheld: make(chan struct{}), turn: make(chan struct{}, 1),
		finished: make(chan struct{}), began: time.Now(),
	}
	l.watcher = watch(l)
	held, admit := context.WithCancel(conn.Context())
	l.admit = func() {
		admit()
		entered()
	}
	go l.takeHeld(held)
	context.AfterFunc(conn.Context(), l.finish)
	return l
}

// PeerCertificates implements tunnel.Certified.
func (l *Link) PeerCertificates() []*x509.Certificate {
	return l.conn.ConnectionState().TLS.PeerCertificates
}

// lastRead is when a stream gave bytes last; when the link was made if none has.
func (l *Link) lastRead() time.Time { return l.began.Add(time.Duration(l.read.Load())) }

// finish undoes the link when its connection has ended.
func (l *Link) finish() {
	defer close(l.finished)
	l.fail(closedError(context.Cause(l.conn.Context())))
	<-l.unheld
	l.watcher.stop()
	if l.release != nil {
		l.release()
	}
}

// takeHeld takes the peer's streams until the link is admitted, also while nobody calls Accept: one too many ends the link. From
// then on Accept does it, and an idle link has no goroutine of ours.
func (l *Link) takeHeld(ctx context.Context) {
	defer close(l.unheld)
	for ctx.Err() == nil {
		q, err := l.conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		if !l.hold.Stream() {
			l.fail(&tunnel.ClosedError{Reason: l.hold.Exceeded()})
			return
		}
		if s := l.take(q); s != nil {
			select {
			case l.first <- s: // has room for all that a held link takes; one more may come while it is being admitted
			case <-l.conn.Context().Done():
			}
		}
	}
}

// take counts a stream of the peer; nil if that has too many.
func (l *Link) take(q *quic.Stream) *stream {
	s := l.newStream(q, true)
	if l.open.Add(1) > int64(l.conf.MaxIncoming) {
		s.Reset(tunnel.ResetRefused)
		return nil
	}
	return s
}

// strays reports whether the peer of a link opened a one-way stream: a socket that serves browsers, too, has to allow them.
func (l *Link) strays() bool {
	if l.conf.HTTP3 == nil {
		return false
	}
	at, cancel := context.WithCancel(context.Background())
	cancel() // only one that is there already
	_, err := l.conn.AcceptUniStream(at)
	return err == nil
}

// fail ends the link for cause, unless it has ended already, and tells the peer unless the peer told us.
func (l *Link) fail(cause *tunnel.ClosedError) {
	if !l.ending.End(cause) {
		return
	}
	code, text := cause.Reason.Wire()
	_ = l.conn.CloseWithError(quic.ApplicationErrorCode(code), text)
}

// Open implements tunnel.Link.
func (l *Link) Open(ctx context.Context) (tunnel.Stream, error) {
	q, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, l.ended(err)
	}
	return l.newStream(q, false), nil
}

// Accept implements tunnel.Link. Its stack is small where it waits for long: an edge has thousands that do.
func (l *Link) Accept(ctx context.Context) (tunnel.Stream, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.turn }()
	if s, err := l.acceptHeld(ctx); s != nil || err != nil {
		return s, err
	}
	return l.acceptAdmitted(ctx)
}

// enter takes the turn.
func (l *Link) enter(ctx context.Context) error {
	select {
	case <-l.ending.Done():
		return l.ending.Cause()
	default:
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-l.ending.Done():
		return l.ending.Cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// acceptHeld returns a stream that takeHeld took, or nothing once that has ended and left none.
func (l *Link) acceptHeld(ctx context.Context) (tunnel.Stream, error) {
	select {
	case s := <-l.first:
		return s, nil
	case <-l.unheld:
	case <-l.ending.Done():
		return nil, l.ending.Cause()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case s := <-l.first:
		return s, nil
	default:
		return nil, nil
	}
}

// acceptAdmitted is Accept of a link without takeHeld.
func (l *Link) acceptAdmitted(ctx context.Context) (tunnel.Stream, error) {
	for {
		q, err := l.conn.AcceptStream(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			return nil, l.ended(err)
		}
		if s := l.take(q); s != nil {
			return s, nil
		}
	}
}

// ended is for a call that failed because the connection did: it makes sure that the link knows, and returns its cause.
func (l *Link) ended(err error) error {
	l.fail(closedError(err))
	return l.ending.Cause()
}

// Admit implements tunnel.Link.
func (l *Link) Admit() {
	l.hold.Admit()
	l.admit()
}

// Export implements tunnel.Link.
func (l *Link) Export(label string, binding []byte, length int) ([]byte, error) {
	state := l.conn.ConnectionState().TLS
	return state.ExportKeyingMaterial(label, binding, length)
}

// Close implements tunnel.Link. The one packet that carries the reason may be lost: the peer then finds the silence.
func (l *Link) Close(reason tunnel.Reason) error {
	l.fail(&tunnel.ClosedError{Reason: reason})
	limit := time.NewTimer(closeLimit)
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

// Path implements tunnel.Measured.
func (l *Link) Path() tunnel.Path {
	stats := l.conn.ConnectionStats()
	return tunnel.Path{Latest: stats.LatestRTT, Least: stats.MinRTT, Sent: stats.BytesSent, Received: stats.BytesReceived}
}

// Probe implements tunnel.Measured: a datagram (RFC 9221) of one byte is acknowledged like all else, and means nothing to the peer,
// who never looks at it. A peer that takes none is not probed. quic-go queues some of them and then waits for the line, so
// that each is sent by a goroutine, one at a time: it ends with the link at the latest.
func (l *Link) Probe() {
	if !l.probing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer l.probing.Store(false)
		_ = l.conn.SendDatagram([]byte{0})
	}()
}

// Info implements tunnel.Link.
func (l *Link) Info() tunnel.Info {
	return tunnel.Info{
		Transport: transportName,
		Local:     l.conn.LocalAddr(),
		Remote:    l.conn.RemoteAddr(),
		RTT:       l.conn.ConnectionStats().SmoothedRTT,
	}
}
