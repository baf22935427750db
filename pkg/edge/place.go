package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/handover"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/udpshare"
)

// Names of what a running edge hands over. A way to an older process is named relay/ and its epoch.
const (
	fileTCP      = "tcp"
	fileUDP      = "udp"
	fileAdmin    = "admin"
	fileLoopback = "loopback"
	fileHealth   = "health"
	fileHandover = "handover"
	fileLock     = "lock"
	relayPrefix  = "relay/"
)

// maxOlder is how many older processes may be finishing at a time; the oldest is cut off by one more.
const maxOlder = 7

// place is what an edge process holds that only one can: it was handed over by a running one, or opened afresh, and goes to
// the next in the same way.
type place struct {
	tcp, admin, loopback *leavable
	health               *leavable        // nil where none is configured
	udp                  *udpshare.Socket // nil when QUIC is off
	peers                *peerSocket      // nil for an edge that is alone
	handover             *net.UnixListener

	claim  *handover.Claim // nil when no edge ran before
	result *prometheus.CounterVec

	mu    sync.Mutex // guards below: what was begun for a successor that is not ready yet
	inbox *net.UnixConn
}

// leavable is a listener that can stop accepting while its server goes on.
type leavable struct {
	net.Listener
	once sync.Once
	left chan struct{}
	shut chan struct{}
	end  sync.Once
}

func newLeavable(l net.Listener) *leavable {
	return &leavable{Listener: l, left: make(chan struct{}), shut: make(chan struct{})}
}

// Accept waits for Close once the listener was left, so that its server does not end.
func (l *leavable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		return c, nil
	}
	select {
	case <-l.left:
		<-l.shut
		return nil, net.ErrClosed
	default:
		return nil, err
	}
}

// Leave accepts nothing more here. Where another process holds the socket, connections wait for that.
func (l *leavable) Leave() {
	l.once.Do(func() {
		close(l.left)
		_ = l.Listener.Close()
	})
}

// Close implements net.Listener.
func (l *leavable) Close() error {
	l.end.Do(func() { close(l.shut) })
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handoverSocket is where a successor asks.
func (c *Config) handoverSocket() string { return filepath.Join(c.StateDir, "handover.sock") }

// askForPlace asks the edge that runs on the same state directory, if there is one, for its place.
func (e *Edge) askForPlace(ctx context.Context) (err error) {
	e.place = &place{result: e.metrics.Counter("sallyport_handover_total", "What became of those who asked for this process's place.", "result")}
	e.place.claim, err = handover.Ask(ctx, e.config.handoverSocket(), build.Version())
	if claim := e.place.claim; claim != nil {
		e.logger.Info("taking over from a running edge", zap.Int("predecessor", claim.PID), zap.String("version", claim.Software))
	}
	return err
}

// openPlace opens what was not handed over, or was for other addresses.
func (e *Edge) openPlace(ctx context.Context) (err error) {
	p := e.place
	given := handover.Files{}
	if p.claim != nil {
		given = p.claim.Files
	}
	if p.tcp, err = inherit(given, fileTCP, e.config.Listen); err != nil {
		return err
	}
	var udp *net.UDPConn
	if p.tcp == nil || e.config.QUIC && given[fileUDP] == nil {
		sockets, err := e.listenAfresh(ctx)
		if err != nil {
			return err
		}
		if p.tcp == nil {
			p.tcp = newLeavable(sockets.tcp)
		}
		udp = sockets.udp
	} else if e.config.QUIC {
		if udp, err = inheritUDP(given[fileUDP]); err != nil {
			return err
		}
	}
	if udp != nil {
		p.udp = udpshare.New(udp, udpshare.NewEpoch())
		if err := e.relay(p.udp, relayPrefix, given); err != nil {
			return err
		}
	}
	if p.peers, err = e.openPeerSocket(ctx, given); err != nil {
		return err
	}
	if p.loopback, err = inherit(given, fileLoopback, e.config.Loopback); err != nil {
		return err
	}
	if e.config.Health != "" {
		if p.health, err = inherit(given, fileHealth, e.config.Health); err != nil {
			return err
		}
	}
	if p.admin, err = inherit(given, fileAdmin, ""); err != nil {
		return err
	}
	p.handover, err = given.Socket(fileHandover)
	return err
}

// listenAfresh opens the port; where TCP was handed over, UDP beside it.
func (e *Edge) listenAfresh(ctx context.Context) (*sockets, error) {
	if e.place.tcp == nil {
		return listen(ctx, e.config.Listen, e.config.QUIC)
	}
	udp, err := new(net.ListenConfig).ListenPacket(ctx, "udp", e.place.tcp.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &sockets{udp: udp.(*net.UDPConn)}, nil
}

// inherit makes a leavable listener of a file; nil when there is none that listens where it should.
func inherit(given handover.Files, name, want string) (*leavable, error) {
	l, err := given.Listener(name, want)
	if l == nil || err != nil {
		return nil, err
	}
	return newLeavable(l), nil
}

func inheritUDP(f *os.File) (*net.UDPConn, error) {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.New("udp: what was handed over is no UDP socket"), c.Close())
	}
	return udp, nil
}

// relay prepares to pass packets on to the processes that still finish, the newest first.
func (e *Edge) relay(from *udpshare.Socket, prefix string, given handover.Files) error {
	names := slices.Sorted(maps.Keys(given))
	older := 0
	for _, name := range names {
		text, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		_, hexed, _ := strings.Cut(text, "/")
		epoch, err := udpshare.ParseEpoch(hexed)
		if err != nil {
			return err
		}
		if older++; older > maxOlder {
			e.logger.Warn("the oldest edge that still finishes is cut off: too many restarts in a row", zap.Stringer("epoch", epoch))
			continue
		}
		own, err := handover.Copy(given[name], name)
		if err != nil {
			return err
		}
		conn, err := udpshare.Conn(own)
		if err != nil {
			return err
		}
		from.Relay(epoch, conn)
	}
	return nil
}

// complete opens what is only opened by a process that serves.
func (e *Edge) complete(ctx context.Context) error {
	p := e.place
	if p.admin == nil {
		l, err := adminapi.Listen(ctx, e.config.Socket())
		if err != nil {
			return err
		}
		p.admin = newLeavable(l)
	}
	if p.loopback == nil {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", e.config.Loopback)
		if err != nil {
			return fmt.Errorf("loopback listen: %w", err)
		}
		p.loopback = newLeavable(l)
	}
	if p.health == nil && e.config.Health != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", e.config.Health)
		if err != nil {
			return fmt.Errorf("health listen: %w", err)
		}
		p.health = newLeavable(l)
	}
	if p.handover == nil {
		l, err := handover.Listen(e.config.handoverSocket())
		if err != nil {
			return err
		}
		p.handover = l
	}
	return nil
}

// take says that this process can serve and returns once it alone does.
func (p *place) take(ctx context.Context) error {
	if claim := p.claim; claim != nil {
		if err := claim.Ready(ctx); err != nil {
			return err
		}
		claim.Files.Close()
		p.claim = nil
	}
	if p.udp != nil {
		p.udp.Begin()
	}
	p.peers.begin()
	return nil
}

// lock is the store's, as it was handed over; nil without a predecessor. Whoever gets it closes it.
func (p *place) lock() *os.File {
	if p.claim == nil {
		return nil
	}
	f := p.claim.Files[fileLock]
	delete(p.claim.Files, fileLock)
	return f
}

// Close lets go of everything; a predecessor that waits for us is told why.
func (p *place) Close(why error) error {
	if p.claim != nil {
		if why == nil {
			why = errors.New("it was closed before it ran")
		}
		p.claim.Fail(why)
		p.claim.Files.Close()
	}
	var faults []error
	for _, l := range []*leavable{p.tcp, p.admin, p.loopback, p.health} {
		if l != nil {
			faults = append(faults, l.Close())
		}
	}
	if p.udp != nil {
		faults = append(faults, p.udp.Close())
	}
	faults = append(faults, p.peers.close())
	if p.handover != nil {
		faults = append(faults, p.handover.Close())
	}
	if err := errors.Join(faults...); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// offer is what a successor gets: copies of everything.
func (e *Edge) offer() (files handover.Files, err error) {
	p := e.place
	files = handover.Files{}
	add := func(name string, of descriptor) {
		if err != nil {
			return
		}
		var f *os.File
		if f, err = handover.Copy(of, name); err == nil {
			files[name] = f
		}
	}
	if lock := e.store.Lock(); lock != nil {
		add(fileLock, lock)
	}
	for name, l := range map[string]*leavable{fileTCP: p.tcp, fileAdmin: p.admin, fileLoopback: p.loopback, fileHealth: p.health} {
		if l != nil {
			add(name, l.Listener.(descriptor))
		}
	}
	add(fileHandover, p.handover)
	if p.udp != nil {
		add(fileUDP, p.udp.UDPConn)
		for i, older := range p.udp.Older() {
			add(fmt.Sprintf("%s%02d/%s", relayPrefix, i+1, older.Epoch), older.Conn)
		}
		if err == nil {
			err = p.openInbox(files)
		}
	}
	if err == nil {
		err = p.peers.offer(files)
	}
	if err != nil {
		files.Close()
		return nil, err
	}
	return files, nil
}

// descriptor is what handover.Copy copies.
type descriptor = handover.Descriptor

func (p *place) openInbox(files handover.Files) error {
	far, near, err := udpshare.Pair()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.inbox = near
	p.mu.Unlock()
	files[fmt.Sprintf("%s00/%s", relayPrefix, p.udp.Epoch())] = far
	return nil
}

// withdraw undoes offer.
func (e *Edge) withdraw() {
	p := e.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inbox != nil {
		_ = p.inbox.Close()
		p.inbox = nil
	}
	p.peers.withdraw()
}

// yield stops accepting and reading: the successor does from now on.
func (e *Edge) yield(successor int) {
	p := e.place
	for _, l := range []*leavable{p.tcp, p.admin, p.loopback, p.health} {
		if l != nil {
			l.Leave()
		}
	}
	p.mu.Lock()
	inbox := p.inbox
	p.mu.Unlock()
	if p.udp != nil && inbox != nil {
		p.udp.Yield(inbox)
	}
	if p.peers.yield(); e.peers != nil {
		e.peers.Yield()
	}
	e.notifier.MainPID(successor)
	e.logger.Info("the place is the successor's: finishing what is here", zap.Int("successor", successor))
}

// Restart asks the edge that runs on the configuration's state directory to start its successor, and returns when that serves.
func Restart(ctx context.Context, c Config) error { return handover.Restart(ctx, c.handoverSocket()) }
