// Package fec owns forward error correction under QUIC: behind a few packets to a peer a socket sends one more, from which the peer
// makes the one of them that the line lost (RFC 6363; source packets, repair packets). So a line that loses packets at random looks to
// congestion control like one that loses few. It changes no packet of QUIC's, reads no more of them than their first byte and their
// last four, and knows neither links nor when repairing pays. DESIGN.md tells why it is so, and what it brings.
package fec

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Socket repairs what is sent and received through the net.PacketConn that Wrap returned with it. While no peer is protected or
// protects what it sends, a packet costs one comparison.
type Socket struct {
	write   func(p, oob []byte, to net.Addr)
	metrics *Metrics
	// sending and receiving are how many peers are protected, and protect what they send.
	sending, receiving atomic.Int64

	mu    sync.RWMutex
	peers map[netip.AddrPort]*Peer
}

func newSocket(metrics *Metrics, write func(p, oob []byte, to net.Addr)) *Socket {
	return &Socket{write: write, metrics: metrics, peers: map[netip.AddrPort]*Peer{}}
}

// Peer is one to whom lost packets are repaired, in either direction; packets of others cost nothing and are left alone.
type Peer struct {
	socket *Socket
	at     netip.AddrPort // guarded by socket.mu
	out    block
	in     window
}

// Peer takes repair packets from at from now on.
func (s *Socket) Peer(at net.Addr) *Peer {
	p := &Peer{socket: s}
	p.out.send = func(packet, oob []byte, to net.Addr) {
		s.metrics.noteSent()
		s.write(packet, oob, to)
	}
	p.Move(at)
	return p
}

// Move says where the peer is now.
func (p *Peer) Move(at net.Addr) {
	to := address(at)
	p.socket.mu.Lock()
	defer p.socket.mu.Unlock()
	if to == p.at {
		return
	}
	p.leave()
	if p.at = to; to.IsValid() {
		p.socket.peers[to] = p
	}
}

// leave forgets the peer's address; the caller holds the socket's mu.
func (p *Peer) leave() {
	if p.socket.peers[p.at] == p {
		delete(p.socket.peers, p.at)
	}
}

// Protect says whether repair packets are sent to the peer, which must know them.
func (p *Peer) Protect(on bool) {
	if p.out.turn(on) {
		p.socket.sending.Add(delta(on))
	}
}

// Close leaves the peer alone. Protect must not be called any more.
func (p *Peer) Close() {
	p.socket.mu.Lock()
	p.leave()
	p.socket.mu.Unlock()
	p.Protect(false)
	if p.in.end() {
		p.socket.receiving.Add(-1)
	}
}

func delta(on bool) int64 {
	if on {
		return 1
	}
	return -1
}

func (s *Socket) peer(at net.Addr) *Peer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.peers[address(at)]
}

// address is zero for what is no UDP address, of which there is no peer.
func address(at net.Addr) netip.AddrPort {
	udp, ok := at.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := udp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// sent is told what has been sent: packets of size bytes each, the last one perhaps shorter.
func (s *Socket) sent(packets []byte, size int, oob []byte, to net.Addr) {
	peer := s.peer(to)
	if peer == nil {
		return
	}
	for len(packets) > 0 {
		n := min(size, len(packets))
		peer.out.add(packets[:n], oob, to)
		packets = packets[n:]
	}
}

// received is told what has come, and returns how many bytes of p are a packet for QUIC then: p as it is, or in place of a repair
// packet the one that was lost.
func (s *Socket) received(p []byte, from net.Addr) int {
	repair := isRepair(p)
	if !repair && (s.receiving.Load() == 0 || !isSource(p)) {
		return len(p)
	}
	peer := s.peer(from)
	if peer == nil {
		return len(p)
	}
	if !repair {
		if peer.in.keep(p) {
			s.receiving.Add(-1)
		}
		return len(p)
	}
	if peer.in.begin() {
		s.receiving.Add(1)
	}
	n := peer.in.repair(p)
	if !isRepair(p) {
		s.metrics.noteRepaired()
	}
	return n
}
