// Package tunnel owns the words of the transport between a connector and an edge: Link, Stream, why they end, how a
// connector dials (QUIC first, WebSocket raced in) and how long it waits before it dials again. The transports are
// quiclink and wslink; linktest is the suite that both must pass. It knows no HTTP, no frames and no keys but TLS's.
package tunnel

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"time"
)

// ALPN is the protocol name that connectors offer on QUIC (RFC 7301), ALPNPeer that of links between edges.
const (
	ALPN     = "sallyport/1"
	ALPNPeer = "sallyport-peer/1"
)

// Link is one authenticated transport connection between a connector and an edge. All methods may be called from
// several goroutines.
//
// A link starts held: until Admit it takes one incoming stream and HeldBytes from the peer, so that a stranger who only
// completed TLS costs next to nothing; what exceeds that closes the link.
type Link interface {
	// Open starts a stream. It waits for the peer's stream credit until ctx ends.
	Open(ctx context.Context) (Stream, error)
	// Accept returns the next stream that the peer opened.
	Accept(ctx context.Context) (Stream, error)
	// Admit lifts the hold once the peer has proved who it is.
	Admit()
	// Export returns keying material bound to the TLS connection (RFC 8446 §7.5), the same on both sides and different
	// wherever TLS was opened in between.
	Export(label string, context []byte, length int) ([]byte, error)
	// Close ends the link and all its streams at once and tells the peer why, as far as the network still carries it.
	// It never blocks for longer than a second.
	Close(reason Reason) error
	// Done is closed when the link has ended, for whatever reason, found by either side.
	Done() <-chan struct{}
	// Cause says why the link ended: a *ClosedError. It is nil before Done is closed.
	Cause() error
	// Info describes the link for logs, metrics and status.
	Info() Info
}

// Stream carries bytes both ways inside a link. Read and Write may run at the same time, each from one goroutine.
//
// A stream costs the peer's credit until both directions have ended: whoever holds one reads it to io.EOF and calls
// CloseWrite, or calls Reset. The peer's Accept sees a stream with its first byte or its end, not before.
type Stream interface {
	// Read returns io.EOF only after the peer's CloseWrite; a *ResetError after Reset by the peer; the link's cause
	// when the link ended.
	io.Reader
	// Write blocks while the peer's window is full.
	io.Writer
	// CloseWrite ends this side's bytes; the other direction goes on for as long as it likes.
	CloseWrite() error
	// Reset abandons both directions at once; the peer's Read and Write fail with code. It never blocks, and does
	// nothing after both directions have ended.
	Reset(code ResetCode)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Rousing is a stream for whose bytes nobody has to wait with a stack of his own: it says when some come. Streams of some transports
// are.
type Rousing interface {
	// Rouse has f called once, when Read has something to return, be it an error, or is about to; at once if it has now. Of several
	// calls the last counts. f must not block. It reports false, and does nothing, if the stream cannot say.
	Rouse(f func()) bool
}

// HeldBytes is what a link takes from its peer before Admit.
const HeldBytes = 16 << 10

// CongestionBBR names the congestion control that keeps its rate where packets are lost at random; others halve it.
const CongestionBBR = "bbr"

// Info describes a link.
type Info struct {
	// Transport is "quic" or "websocket".
	Transport string
	Local     net.Addr
	Remote    net.Addr
	// RTT is the smoothed round trip, 0 while unknown.
	RTT time.Duration
	// Congestion is the congestion control of a TCP socket as the kernel names it ("bbr", "cubic"); "" where it is not known.
	Congestion string
	// Inside says that this side dialled the link inside a WebSocket (Target.Outer); OpenedBy is then who issued the certificate of
	// what opens TLS on the way, as X.509 writes names, at most 100 bytes; "" where nobody does.
	Inside   bool
	OpenedBy string
}

// Measured is a link that knows the network under it; those over a network are.
type Measured interface {
	// Path is how the network fares now. It is cheap, but not free: a system call on TCP.
	Path() Path
	// Probe makes the peer acknowledge something, so that Path is not stale on a quiet link. It never blocks, and does
	// nothing where the transport cannot.
	Probe()
}

// Certified is a link whose peer showed certificates in the handshake.
type Certified interface {
	// PeerCertificates is the chain as it was shown, the peer's own first. That the peer holds that one's key is proved; whom to
	// trust was for tls.Config to say.
	PeerCertificates() []*x509.Certificate
}

// Repaired is a link that can make packets good which the line loses.
type Repaired interface {
	// CanRepair says that this side takes repair packets.
	CanRepair() bool
	// Repair has it take them from now on, and send some while the line loses packets: the peer takes them, too.
	Repair()
}

// CanRepair reports whether packets of link can be made good.
func CanRepair(link Link) bool {
	r, ok := link.(Repaired)
	return ok && r.CanRepair()
}

// Repair has packets of link made good.
func Repair(link Link) {
	if r, ok := link.(Repaired); ok {
		r.Repair()
	}
}

// Path is what a link knows of the network under it.
type Path struct {
	// Latest is the newest round trip (on TCP the smoothed one), Least the smallest lately; 0 while unknown. The one minus
	// the other is what queues on the way.
	Latest, Least time.Duration
	// Sent is how many bytes this side has sent, those sent again included (on TCP: how many were acknowledged).
	Sent uint64
	// Received is how many bytes have come, acknowledgements included; 0 where that is not known (TCP).
	Received uint64
}

// Dialer opens links of one transport.
type Dialer interface {
	// Dial resolves target anew, connects, and completes TLS. The link is held.
	Dial(ctx context.Context, target Target) (Link, error)
	// Transport is the name that Info carries.
	Transport() string
}

// Listener hands out links that completed TLS; they are held.
type Listener interface {
	Accept(ctx context.Context) (Link, error)
	Close() error
}
