package wslink

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// controlStream is the id of the first stream of the side that dialled.
const controlStream = 1

var errControl = &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the session did not begin with the control stream"}}

// startControl has y, the control stream, read, and what waits in the outbox written.
func (l *Link) startControl(y *yamux.Stream) {
	l.mu.Lock()
	l.control = y
	if l.over {
		interrupt(y)
	}
	l.mu.Unlock()
	l.during(l.readControl)
	l.send()
}

// begun has done what frames that begin to come ask for. The reader calls it before yamux has them; whoever does it waits for that.
func (l *Link) begun(what begun) {
	if what.streams > 0 {
		l.arrive(what.streams)
	}
	if what.control > 0 && l.notices.add(what.control) {
		l.during(l.readControl)
	}
	if what.first > 0 {
		l.first.add(what.first)
	}
}

// arrive has n streams of the peer taken. It never waits for Accept, so that resets find their streams: what waits is bounded by what may
// be open. With endless it has all taken, and then what ended the session found.
func (l *Link) arrive(n int64) {
	if l.arrivals.add(n) {
		l.during(l.takeArrivals)
	}
}

// sessionOver is closed once the session's end has a cause: when a stream of yamux fails because the session did, what
// ended the session says more.
func (l *Link) sessionOver() <-chan struct{} {
	if l.session.IsClosed() {
		return l.ending.Done()
	}
	over := make(chan struct{})
	close(over)
	return over
}

// openControl opens the control stream of the side that dialled, and then takes what has arrived meanwhile.
func (l *Link) openControl() {
	y, err := l.session.OpenStream()
	<-l.opening
	if err == nil && y.StreamID() != controlStream {
		err = errControl
	}
	if err != nil {
		l.sessionEnded(err)
		return
	}
	l.startControl(y)
	l.takeArrivals()
}

// takeArrivals takes the peer's streams that are due, and ends the link if there can be no more.
func (l *Link) takeArrivals() {
	for l.arrivals.next(1) {
		if err := l.acceptStream(); err != nil {
			l.sessionEnded(err)
			return
		}
	}
}

func (l *Link) acceptStream() error {
	y, err := l.session.AcceptStream()
	if err != nil {
		return err
	}
	switch {
	case !l.dialled && l.last == 0:
		if y.StreamID() != controlStream {
			return errControl
		}
		l.last = controlStream
		l.startControl(y)
	case !l.hold.Stream():
		return &tunnel.ClosedError{Reason: l.hold.Exceeded()}
	default:
		return l.admitStream(y)
	}
	return nil
}

func (l *Link) admitStream(y *yamux.Stream) error {
	s := &stream{link: l, yamux: y, id: y.StreamID(), incoming: true}
	limit := l.conf.MaxIncoming + l.conf.MaxIncoming/4
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return yamux.ErrSessionShutdown
	}
	l.streams[s.id] = s
	l.last = max(l.last, s.id)
	l.taken++
	taken := l.taken
	code, reset := l.resets[s.id]
	delete(l.resets, s.id)
	l.mu.Unlock()
	switch {
	case taken > 2*limit:
		return &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "far too many streams"}}
	case reset:
		l.resetByPeer(s, code)
	case taken > limit:
		s.Reset(tunnel.ResetRefused)
		return nil
	}
	if !l.incoming.put(s, limit) {
		s.Reset(tunnel.ResetRefused)
	}
	return nil
}

// Open implements tunnel.Link. ctx bounds the wait for a slot; the frame that opens the stream is bounded by the write
// limit.
func (l *Link) Open(ctx context.Context) (tunnel.Stream, error) {
	if err := l.enter(ctx, l.slots); err != nil {
		return nil, err
	}
	if err := l.enter(ctx, l.opening); err != nil {
		<-l.slots
		return nil, err
	}
	l.conn.opens.Store(true)
	y, err := l.session.OpenStream()
	l.conn.opens.Store(false)
	<-l.opening
	if err != nil {
		<-l.slots
		<-l.sessionOver()
		l.fail(closedError(err))
		return nil, l.ending.Cause()
	}
	s := &stream{link: l, yamux: y, id: y.StreamID()}
	l.mu.Lock()
	over := l.over
	if !over {
		l.streams[s.id] = s
	}
	l.mu.Unlock()
	if over {
		<-l.ending.Done()
		return nil, l.ending.Cause()
	}
	return s, nil
}

func (l *Link) enter(ctx context.Context, door chan struct{}) error {
	select {
	case <-l.ending.Done():
		return l.ending.Cause()
	default:
	}
	select {
	case door <- struct{}{}:
		return nil
	case <-l.ending.Done():
		return l.ending.Cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// onReset: the peer has abandoned the stream.
func (l *Link) onReset(id uint32, code tunnel.ResetCode) {
	l.mu.Lock()
	s := l.streams[id]
	theirs := (id%2 == 0) == l.dialled
	if s == nil && theirs && id > l.last && len(l.resets) < 2*manyStreams {
		l.resets[id] = code
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	if s == nil {
		l.tell(message{kind: messageSeen, stream: id})
		return
	}
	l.resetByPeer(s, code)
}

func (l *Link) resetByPeer(s *stream, code tunnel.ResetCode) {
	s.interrupt(&tunnel.ResetError{Code: code, Remote: true})
	l.tell(message{kind: messageSeen, stream: s.id})
	l.release(s)
}

// onSeen: the peer knows that we abandoned the stream, so a FIN can mislead nobody.
func (l *Link) onSeen(id uint32) {
	l.mu.Lock()
	s := l.streams[id]
	l.mu.Unlock()
	if s != nil && s.wasReset() {
		l.release(s)
	}
}

// release frees an abandoned stream in yamux, which keeps it until both sides have closed.
func (l *Link) release(s *stream) {
	if err := s.yamux.Close(); err != nil && !errors.Is(err, yamux.ErrSessionShutdown) {
		l.fail(closedError(err))
	}
	l.forget(s)
}

// forget gives the slot of a stream back; once.
func (l *Link) forget(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[s.id] != s {
		return
	}
	delete(l.streams, s.id)
	if s.incoming {
		l.taken--
		return
	}
	<-l.slots
}

// interruptStreams wakes whatever waits on a stream of an ended link. It must happen before the connection is closed: a
// waiting Read or Write of yamux spins from the start of the session's shutdown to its end, unless a deadline stops it.
func (l *Link) interruptStreams() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.control != nil {
		interrupt(l.control)
	}
	for _, s := range l.streams {
		s.wake()
	}
}

// interrupt makes what waits on y return.
func interrupt(y *yamux.Stream) {
	past := time.Unix(1, 0)
	_ = y.SetReadDeadline(past)
	_ = y.SetWriteDeadline(past)
}
