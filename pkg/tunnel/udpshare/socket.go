package udpshare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Socket is one process's end of the shared UDP socket. quic-go reads it through ReadBatch and sends through what it embeds,
// as it would with the *net.UDPConn itself, so that batches, segmentation offload, ECN and packet information stay.
//
// It begins held: nothing is read until Begin. A process that yields reads what its successor passes on from then on.
type Socket struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	epoch Epoch

	// relays lead to older processes that still finish; nil, the usual case, costs ReadBatch one load and nothing else.
	relays atomic.Pointer[[]*Older]
	frame  []byte // of ReadBatch's only caller

	begun   chan struct{}
	start   sync.Once
	yielded atomic.Bool
	stopped chan struct{} // closed when the kernel's socket is read no more
	stop    sync.Once

	mu       sync.Mutex    // guards below
	inbox    *net.UnixConn // where a successor will pass packets on; nil before Inbox
	deadline time.Time
	wake     chan struct{} // closed and replaced when the deadline changes
}

// Older is the way to an older process.
type Older struct {
	Epoch Epoch
	Conn  *net.UnixConn
}

// New wraps a socket for the process of the given epoch.
func New(conn *net.UDPConn, epoch Epoch) *Socket {
	return &Socket{
		UDPConn: conn, batch: ipv4.NewPacketConn(conn), epoch: epoch, frame: make([]byte, 0, maxFrame),
		begun: make(chan struct{}), stopped: make(chan struct{}), wake: make(chan struct{}),
	}
}

// Epoch is this process's.
func (s *Socket) Epoch() Epoch { return s.epoch }

// Begin lets the socket be read.
func (s *Socket) Begin() { s.start.Do(func() { close(s.begun) }) }

// Pair makes the two ends over which a successor passes packets on to this process; the successor's end is returned. While
// it is held anywhere, the other end does not read its end (io.EOF), which is how a process knows that it has a successor.
func Pair() (successors *os.File, own *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	successors = os.NewFile(uintptr(fds[0]), "relay")
	own, err = Conn(os.NewFile(uintptr(fds[1]), "inbox"))
	if err != nil {
		return nil, nil, errors.Join(err, successors.Close())
	}
	return successors, own, nil
}

// Conn makes a connection of an end of a pair, and closes the file.
func Conn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("relay: not a Unix socket"), c.Close())
	}
	// As much as the kernel lets us: what finds no room is lost, as on any line.
	_ = u.SetWriteBuffer(1 << 20)
	return u, nil
}

// Relay passes packets of an older process on from now on, newer ones first; the connection is closed when that process is gone.
func (s *Socket) Relay(to Epoch, over *net.UnixConn) {
	_ = over.SetWriteDeadline(time.Time{})
	old := s.relays.Load()
	var list []*Older
	if old != nil {
		list = append(list, *old...)
	}
	list = append(list, &Older{to, over})
	s.relays.Store(&list)
}

// Older lists the older processes that packets are passed on to, the newest first.
func (s *Socket) Older() []*Older {
	if list := s.relays.Load(); list != nil {
		return *list
	}
	return nil
}

// Yield stops reading the kernel's socket and reads inbox instead; it returns when that is so. A reader that is busy has a
// second, after which it will do so as soon as it reads again.
func (s *Socket) Yield(inbox *net.UnixConn) {
	s.mu.Lock()
	s.inbox = inbox
	_ = inbox.SetReadDeadline(s.deadline)
	s.mu.Unlock()
	s.yielded.Store(true)
	_ = s.UDPConn.SetReadDeadline(time.Unix(1, 0))
	s.Begin()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	select {
	case <-s.stopped:
	case <-ctx.Done():
	}
}

// SetReadDeadline implements net.PacketConn; quic-go ends its reader by it.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	close(s.wake)
	s.wake = make(chan struct{})
	if s.inbox != nil {
		_ = s.inbox.SetReadDeadline(t)
	}
	if s.yielded.Load() {
		return nil
	}
	return s.UDPConn.SetReadDeadline(t)
}

// Close closes this process's hold on the socket, and the ways to older processes.
func (s *Socket) Close() error {
	_ = s.SetReadDeadline(time.Unix(1, 0))
	if list := s.relays.Swap(nil); list != nil {
		for _, r := range *list {
			_ = r.Conn.Close()
		}
	}
	s.mu.Lock()
	inbox := s.inbox
	s.mu.Unlock()
	if inbox != nil {
		_ = inbox.Close()
	}
	return s.UDPConn.Close()
}

// ReadBatch reads packets that are for this process. It is for one caller at a time.
func (s *Socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if err := s.hold(); err != nil {
		return 0, err
	}
	for !s.yielded.Load() {
		n, err := s.batch.ReadBatch(ms, flags)
		if err != nil {
			if s.yielded.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			return 0, err
		}
		if list := s.relays.Load(); list != nil {
			n = s.pass(*list, ms[:n])
		}
		if n > 0 { // quic-go takes no batch without a packet
			return n, nil
		}
	}
	s.stop.Do(func() { close(s.stopped) })
	return s.readInbox(ms)
}

// hold waits for Begin.
func (s *Socket) hold() error {
	for {
		s.mu.Lock()
		wake, over := s.wake, !s.deadline.IsZero() && !time.Now().Before(s.deadline)
		s.mu.Unlock()
		if over {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-s.begun:
			return nil
		default:
		}
		select {
		case <-s.begun:
			return nil
		case <-wake:
		}
	}
}

// pass sends on what is for older processes and moves the rest together; it returns how many are left. Bytes are copied, not
// the buffers exchanged: quic-go knows its buffers by their place.
func (s *Socket) pass(list []*Older, ms []ipv4.Message) int {
	kept := 0
	for i := range ms {
		m := &ms[i]
		packet := m.Buffers[0][:m.N]
		if r := whose(list, packet); r != nil && s.forward(r, m, packet) {
			continue
		}
		if kept != i {
			to := &ms[kept]
			to.N, to.NN, to.Flags, to.Addr = copy(to.Buffers[0], packet), copy(to.OOB, m.OOB[:m.NN]), m.Flags, m.Addr
		}
		kept++
	}
	return kept
}

func whose(list []*Older, packet []byte) *Older {
	e, ok := epochOf(packet)
	if !ok {
		return nil
	}
	for _, r := range list {
		if r.Epoch == e {
			return r
		}
	}
	return nil
}

// forward passes a packet on; false when the process is gone, so that its peers get a stateless reset from us. A process that
// does not keep up loses packets, as it would at its own socket.
func (s *Socket) forward(r *Older, m *ipv4.Message, packet []byte) bool {
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		return false
	}
	frame, ok := appendFrame(s.frame[:0], from, m.OOB[:m.NN], packet)
	if !ok {
		return true // larger than any packet of ours
	}
	raw, err := r.Conn.SyscallConn()
	if err != nil {
		s.drop(r)
		return false
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool { // true in any case: never wait
		sent = unix.Send(int(fd), frame, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return true
	})
	if err = errors.Join(err, sent); err == nil || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		return true
	}
	s.drop(r)
	return false
}

// drop forgets a process that is gone.
func (s *Socket) drop(gone *Older) {
	_ = gone.Conn.Close()
	old := s.relays.Load()
	if old == nil {
		return
	}
	var left []*Older
	for _, r := range *old {
		if r != gone {
			left = append(left, r)
		}
	}
	if len(left) == 0 {
		s.relays.CompareAndSwap(old, nil)
		return
	}
	s.relays.CompareAndSwap(old, &left)
}

// readInbox reads one packet that the successor passed on.
func (s *Socket) readInbox(ms []ipv4.Message) (int, error) {
	s.mu.Lock()
	inbox := s.inbox
	s.mu.Unlock()
	buf := s.frame[:maxFrame]
	for {
		n, err := inbox.Read(buf)
		if err != nil {
			return 0, err
		}
		from, control, packet, err := parseFrame(buf[:n])
		if err != nil || len(packet) == 0 {
			continue
		}
		m := &ms[0]
		m.N, m.NN, m.Flags, m.Addr = copy(m.Buffers[0], packet), copy(m.OOB, control), 0, from
		return 1, nil
	}
}
