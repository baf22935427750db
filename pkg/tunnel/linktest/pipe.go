package linktest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is what a direction of a Pipe holds, as a kernel's socket buffers do.
const pipeBuffer = 256 << 10

// Pipe is a TCP connection in memory: buffered, with deadlines, a delay of a millisecond, and a network that can fail.
//
// What is written at once arrives at once. yamux reads a frame while it holds the mutex that a reader of the stream
// wants, and in testing/synctest time stands still while a goroutine waits for a mutex: half a frame would stop it for
// good. wslink writes one frame as one TLS record, so that whole frames are what arrives.
type Pipe struct {
	ends [2]*pipeEnd
}

var _ Wire = (*Pipe)(nil)

// NewPipe returns a connection in memory and its two ends.
func NewPipe() (wire *Pipe, dialer, listener net.Conn) {
	up, down := newLane(), newLane()
	p := &Pipe{ends: [2]*pipeEnd{
		Dialer:   {in: down, out: up, name: "dialer"},
		Listener: {in: up, out: down, name: "listener"},
	}}
	return p, p.ends[Dialer], p.ends[Listener]
}

// Blackhole implements Wire: what was sent and not read yet still arrives.
func (p *Pipe) Blackhole(from End) { p.ends[from].out.change(func(l *lane) { l.hole = true }) }

// Kill implements Wire.
func (p *Pipe) Kill(end End) { _ = p.ends[end].Close() }

// lane is one direction.
type lane struct {
	mu      sync.Mutex
	queue   []packet
	held    int  // bytes in queue
	ended   bool // the writer has closed, and the reader may know
	broken  bool // the reader has closed, and the writer may know
	hole    bool
	lost    int // bytes that went into the hole: they fill the sender's buffer
	changed chan struct{}
}

func newLane() *lane { return &lane{changed: make(chan struct{})} }

func (l *lane) change(f func(*lane)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
	close(l.changed)
	l.changed = make(chan struct{})
}

type pipeEnd struct {
	in, out *lane
	name    string

	mu                sync.Mutex
	closed            bool
	reading, writing  time.Time
	readSet, writeSet chan struct{}
}

var _ net.Conn = (*pipeEnd)(nil)

// wait blocks until the lane changes, due comes, or the deadline changes or passes.
func (e *pipeEnd) wait(changed chan struct{}, due time.Time, deadline *time.Time, set *chan struct{}) error {
	e.mu.Lock()
	if *set == nil {
		*set = make(chan struct{})
	}
	until, reset, closed := *deadline, *set, e.closed
	e.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	var expired <-chan time.Time
	if !until.IsZero() && time.Until(until) <= 0 {
		return os.ErrDeadlineExceeded
	}
	if until.IsZero() || !due.IsZero() && due.Before(until) {
		until = due
	}
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-changed:
	case <-reset:
	case <-expired:
	}
	return nil
}

func (e *pipeEnd) Read(p []byte) (int, error) {
	for {
		if e.isClosed() {
			return 0, net.ErrClosed
		}
		e.in.mu.Lock()
		changed := e.in.changed
		var due time.Time
		if len(e.in.queue) > 0 {
			head := &e.in.queue[0]
			if due = head.due; !time.Now().Before(due) {
				n := copy(p, head.data)
				if head.data = head.data[n:]; len(head.data) == 0 {
					e.in.queue = e.in.queue[1:]
				}
				e.in.held -= n
				e.in.mu.Unlock()
				e.in.change(func(*lane) {})
				return n, nil
			}
		}
		ended := e.in.ended
		e.in.mu.Unlock()
		if ended && due.IsZero() {
			return 0, io.EOF
		}
		if err := e.wait(changed, due, &e.reading, &e.readSet); err != nil {
			return 0, err
		}
	}
}

// Write takes p as a whole as soon as there is any room.
func (e *pipeEnd) Write(p []byte) (int, error) {
	for {
		if e.isClosed() {
			return 0, net.ErrClosed
		}
		e.out.mu.Lock()
		if e.out.broken {
			e.out.mu.Unlock()
			return 0, syscall.EPIPE
		}
		changed := e.out.changed
		room := e.out.held+e.out.lost < pipeBuffer
		switch {
		case room && e.out.hole:
			e.out.lost += len(p)
		case room:
			e.out.queue = append(e.out.queue, packet{time.Now().Add(packetDelay), append([]byte(nil), p...)})
			e.out.held += len(p)
		}
		e.out.mu.Unlock()
		if room {
			e.out.change(func(*lane) {})
			return len(p), nil
		}
		if err := e.wait(changed, time.Time{}, &e.writing, &e.writeSet); err != nil {
			return 0, err
		}
	}
}

func (e *pipeEnd) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Close says so to the other end in both directions, as far as this end's packets still arrive.
func (e *pipeEnd) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	heard := false
	e.out.change(func(l *lane) {
		heard = !l.hole
		l.ended = l.ended || heard
	})
	e.in.change(func(l *lane) { l.broken = l.broken || heard })
	return nil
}

func (e *pipeEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error  { return e.set(t, &e.reading, &e.readSet) }
func (e *pipeEnd) SetWriteDeadline(t time.Time) error { return e.set(t, &e.writing, &e.writeSet) }

func (e *pipeEnd) set(t time.Time, deadline *time.Time, set *chan struct{}) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	*deadline = t
	if *set != nil {
		close(*set)
		*set = nil
	}
	return nil
}

type pipeAddr string

func (pipeAddr) Network() string  { return "memory" }
func (a pipeAddr) String() string { return string(a) }

func (e *pipeEnd) LocalAddr() net.Addr  { return pipeAddr(e.name) }
func (e *pipeEnd) RemoteAddr() net.Addr { return pipeAddr("peer of " + e.name) }

// Listen returns a listener that accepts conns in order and then waits for Close.
func Listen(conns ...net.Conn) net.Listener {
	l := &pipeListener{conns: make(chan net.Conn, len(conns)), closed: make(chan struct{})}
	for _, c := range conns {
		l.conns <- c
	}
	return l
}

type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr("listener") }
