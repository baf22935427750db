package quiclink

import (
	"context"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

const (
	transportName = "quic"
	// closeLimit bounds Close.
	closeLimit = time.Second
	// acceptQueue is how many streams wait for Accept before the peer waits for credit.
	acceptQueue = 16
)

// Link is one QUIC connection.
type Link struct {
	conn     *quic.Conn
	conf     Config
	ending   tunnel.Ending
	hold     tunnel.Hold
	incoming chan *stream
	// open counts the peer's streams that have not ended.
	open atomic.Int64
	// release frees what only this link uses; nil for a link that shares its listener's socket.
	release func()
	// finished is closed when the goroutines of the link are done and release has run.
	finished chan struct{}
}

var (
	_ tunnel.Link      = (*Link)(nil)
	_ tunnel.Measured  = (*Link)(nil)
	_ tunnel.Certified = (*Link)(nil)
)

func newLink(conn *quic.Conn, conf Config, release func()) *Link {
	l := &Link{
		conn: conn, conf: conf, release: release,
		incoming: make(chan *stream, acceptQueue),
		finished: make(chan struct{}),
	}
	go l.run()
	return l
}

// PeerCertificates implements tunnel.Certified.
func (l *Link) PeerCertificates() []*x509.Certificate {
	return l.conn.ConnectionState().TLS.PeerCertificates
}

// run owns the link: it takes the peer's streams, watches for silence, and cleans up when the connection has ended.
func (l *Link) run() {
	defer close(l.finished)
	w := watch(l)
	l.fail(closedError(l.acceptStreams()))
	w.stop()
	if l.release != nil {
		l.release()
	}
}

func (l *Link) acceptStreams() error {
	for {
		q, err := l.conn.AcceptStream(l.conn.Context())
		if err != nil {
			// The context's cause is what ended the connection; err may only say that the context is over.
			if cause := context.Cause(l.conn.Context()); cause != nil {
				return cause
			}
			return err
		}
		if !l.hold.Stream() {
			l.fail(&tunnel.ClosedError{Reason: l.hold.Exceeded()})
			continue
		}
		s := l.newStream(q, true)
		if l.open.Add(1) > int64(l.conf.MaxIncoming) {
			s.Reset(tunnel.ResetRefused)
			continue
		}
		select {
		case l.incoming <- s:
		case <-l.conn.Context().Done():
		}
	}
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

// Accept implements tunnel.Link.
func (l *Link) Accept(ctx context.Context) (tunnel.Stream, error) {
	select {
	case <-l.ending.Done():
		return nil, l.ending.Cause()
	default:
	}
	select {
	case s := <-l.incoming:
		return s, nil
	case <-l.ending.Done():
		return nil, l.ending.Cause()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ended is for a call that failed because the connection did: it makes sure that the link knows, and returns its cause.
func (l *Link) ended(err error) error {
	l.fail(closedError(err))
	return l.ending.Cause()
}

// Admit implements tunnel.Link.
func (l *Link) Admit() { l.hold.Admit() }

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
	return tunnel.Path{Latest: stats.LatestRTT, Least: stats.MinRTT, Sent: stats.BytesSent}
}

// Probe implements tunnel.Measured: a datagram (RFC 9221) of one byte is acknowledged like all else, and means nothing to the peer,
// who never looks at it. A peer that takes none is not probed.
func (l *Link) Probe() { _ = l.conn.SendDatagram([]byte{0}) }

// Info implements tunnel.Link.
func (l *Link) Info() tunnel.Info {
	return tunnel.Info{
		Transport: transportName,
		Local:     l.conn.LocalAddr(),
		Remote:    l.conn.RemoteAddr(),
		RTT:       l.conn.ConnectionStats().SmoothedRTT,
	}
}
