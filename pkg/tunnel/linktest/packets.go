package linktest

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// packetDelay is the one-way delay: with none, a congestion controller has no round trip to measure.
	packetDelay = time.Millisecond
	// packetQueue is how many packets a direction holds; more are dropped, as networks do.
	packetQueue = 8192
)

// Packets is a network of two UDP sockets in memory.
type Packets struct {
	ends [2]*packetEnd
}

var _ Wire = (*Packets)(nil)

// NewPackets returns the network and its two sockets.
func NewPackets() (wire *Packets, dialer, listener net.PacketConn) {
	address := func(host byte) *net.UDPAddr {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 4433))
	}
	p := &Packets{ends: [2]*packetEnd{
		Dialer:   {local: address(1), changed: make(chan struct{})},
		Listener: {local: address(2), changed: make(chan struct{})},
	}}
	p.ends[Dialer].peer, p.ends[Listener].peer = p.ends[Listener], p.ends[Dialer]
	return p, p.ends[Dialer], p.ends[Listener]
}

// ListenerAddr is where the dialer finds the listener.
func (p *Packets) ListenerAddr() netip.AddrPort { return p.ends[Listener].local.AddrPort() }

// Blackhole implements Wire.
func (p *Packets) Blackhole(from End) { p.ends[from].change(func(e *packetEnd) { e.hole = true }) }

// Kill implements Wire: nobody hears that a UDP socket was closed.
func (p *Packets) Kill(end End) {
	p.Blackhole(end)
	p.ends[end].peer.change(func(e *packetEnd) { e.hole = true })
}

type packet struct {
	due  time.Time
	data []byte
}

type packetEnd struct {
	local *net.UDPAddr
	peer  *packetEnd

	mu       sync.Mutex
	queue    []packet // what arrives here
	hole     bool     // what this end sends is dropped
	closed   bool
	deadline time.Time
	changed  chan struct{}
}

var _ net.PacketConn = (*packetEnd)(nil)

func (e *packetEnd) change(f func(*packetEnd)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *packetEnd) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		e.mu.Lock()
		now, wake := time.Now(), e.deadline
		switch {
		case e.closed:
			e.mu.Unlock()
			return 0, nil, net.ErrClosed
		case !e.deadline.IsZero() && !now.Before(e.deadline):
			e.mu.Unlock()
			return 0, nil, os.ErrDeadlineExceeded
		case len(e.queue) > 0 && !now.Before(e.queue[0].due):
			n := copy(p, e.queue[0].data)
			e.queue = e.queue[1:]
			e.mu.Unlock()
			return n, e.peer.local, nil
		case len(e.queue) > 0 && (wake.IsZero() || e.queue[0].due.Before(wake)):
			wake = e.queue[0].due
		}
		changed := e.changed
		e.mu.Unlock()
		sleep(changed, wake)
	}
}

// sleep waits for changed, or until wake if there is one.
func sleep(changed <-chan struct{}, wake time.Time) {
	if wake.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(wake))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func (e *packetEnd) WriteTo(p []byte, _ net.Addr) (int, error) {
	e.mu.Lock()
	hole, closed := e.hole, e.closed
	e.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if hole {
		return len(p), nil
	}
	e.peer.change(func(peer *packetEnd) {
		if len(peer.queue) < packetQueue {
			peer.queue = append(peer.queue, packet{time.Now().Add(packetDelay), append([]byte(nil), p...)})
		}
	})
	return len(p), nil
}

func (e *packetEnd) Close() error {
	e.change(func(e *packetEnd) { e.closed = true })
	return nil
}

func (e *packetEnd) LocalAddr() net.Addr { return e.local }

func (e *packetEnd) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

func (e *packetEnd) SetReadDeadline(t time.Time) error {
	e.change(func(e *packetEnd) { e.deadline = t })
	return nil
}

func (e *packetEnd) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer exist because quic-go complains about sockets without.
func (e *packetEnd) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (e *packetEnd) SetWriteBuffer(int) error { return nil }
