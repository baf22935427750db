package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/handover"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/udpshare"
)

// Names of what a running edge hands over for links from other edges.
const (
	filePeers        = "peers"
	peersRelayPrefix = "peers-relay/"
)

// peerSocket is the UDP socket of cluster.listen. Like that of the one port it goes from process to process, and packets of older
// processes' links are passed on to them. Its methods do nothing for an edge that is alone.
type peerSocket struct {
	udp *udpshare.Socket

	mu    sync.Mutex // guards inbox: what was begun for a successor that is not ready yet
	inbox *net.UnixConn
}

// openPeerSocket takes the socket that was handed over, if it is where the configuration says, or opens one.
func (e *Edge) openPeerSocket(ctx context.Context, given handover.Files) (*peerSocket, error) {
	want := e.config.Cluster.Listen
	if !e.config.Cluster.Enabled() {
		return nil, nil
	}
	var udp *net.UDPConn
	if f := given[filePeers]; f != nil {
		got, err := inheritUDP(f)
		if err != nil {
			return nil, err
		}
		if at := got.LocalAddr().(*net.UDPAddr); handover.ListensAt(&net.TCPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone}, want) {
			udp = got
		} else if err := got.Close(); err != nil {
			return nil, err
		}
	}
	inherited := udp != nil
	if !inherited {
		conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", want)
		if err != nil {
			return nil, fmt.Errorf("cluster.listen: %w", err)
		}
		udp = conn.(*net.UDPConn)
	}
	p := &peerSocket{udp: udpshare.New(udp, udpshare.NewEpoch())}
	if inherited {
		if err := e.relay(p.udp, peersRelayPrefix, given); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

func (p *peerSocket) begin() {
	if p != nil {
		p.udp.Begin()
	}
}

// offer adds what a successor needs of it.
func (p *peerSocket) offer(files handover.Files) (err error) {
	if p == nil {
		return nil
	}
	if files[filePeers], err = handover.Copy(p.udp.UDPConn, filePeers); err != nil {
		return err
	}
	for i, older := range p.udp.Older() {
		name := fmt.Sprintf("%s%02d/%s", peersRelayPrefix, i+1, older.Epoch)
		if files[name], err = handover.Copy(older.Conn, name); err != nil {
			return err
		}
	}
	far, near, err := udpshare.Pair()
	if err != nil {
		return err
	}
	files[fmt.Sprintf("%s00/%s", peersRelayPrefix, p.udp.Epoch())] = far
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbox = near
	return nil
}

// withdraw undoes offer.
func (p *peerSocket) withdraw() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inbox != nil {
		_ = p.inbox.Close()
		p.inbox = nil
	}
}

// yield leaves the socket to the successor, from which what is for links of this process comes from now on.
func (p *peerSocket) yield() {
	if p == nil {
		return
	}
	p.mu.Lock()
	inbox := p.inbox
	p.mu.Unlock()
	if inbox != nil {
		p.udp.Yield(inbox)
	}
}

func (p *peerSocket) close() error {
	if p == nil {
		return nil
	}
	return p.udp.Close()
}
