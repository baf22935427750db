package exchange

import (
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// stripe is one continuation at the receiving side.
type stripe struct {
	stream tunnel.Stream
	r      *wire.Reader
	number int

	// Below is guarded by inLane.mu, and used with several stripes only.
	state  stripeState
	err    error // with broken
	onward chan struct{}
}

type stripeState int

const (
	reading stripeState = iota // its goroutine waits for a header
	ready                      // r stands in a segment; whoever reads the body may use r
	over                       // FIN
	broken
)

func newStripe(s tunnel.Stream) *stripe { return &stripe{stream: s, r: newReader(s)} }

// head reads what the stream begins with.
func (s *stripe) head() (wire.Continuation, error) {
	if err := s.stream.SetReadDeadline(time.Now().Add(headTimeout)); err != nil {
		return wire.Continuation{}, err
	}
	frame, err := s.r.Next()
	if err != nil {
		return wire.Continuation{}, err
	}
	if frame != wire.FrameContinuation {
		return wire.Continuation{}, unexpected(frame, "instead of a continuation")
	}
	head, err := s.r.Continuation()
	if err != nil {
		return head, err
	}
	return head, s.stream.SetReadDeadline(time.Time{})
}

// inLane is the incoming direction of an exchange after its body has moved. It keeps no bytes: each stripe stands before
// its next segment, and the one whose turn it is gets read; the others are held back by their windows. next, end and
// finish are called by whoever reads the body, one at a time.
type inLane struct {
	moves   *Moves // which counts it; may be nil
	stripes []*stripe
	current *stripe // in whose segment the body's reader is

	mu      sync.Mutex
	changed chan struct{} // a stripe's state is another one; it holds one hint
	left    chan struct{} // closed when nobody reads the body any more
	once    sync.Once
	running sync.WaitGroup
}

func newInLane(stripes []*stripe) *inLane {
	l := &inLane{stripes: stripes, changed: make(chan struct{}, 1), left: make(chan struct{})}
	if len(stripes) == 1 {
		return l
	}
	for i, s := range stripes {
		s.number, s.onward = i, make(chan struct{}, 1)
		l.running.Go(func() { l.run(s) })
	}
	return l
}

// run reads one stripe's headers; the segments belong to the reader of the body.
func (l *inLane) run(s *stripe) {
	for {
		state, err := ready, s.advance()
		switch {
		case isFIN(err):
			state = over
		case err != nil:
			state = broken
		}
		l.mu.Lock()
		s.state, s.err = state, err
		l.mu.Unlock()
		select {
		case l.changed <- struct{}{}:
		default:
		}
		if state != ready {
			return
		}
		select {
		case <-s.onward:
		case <-l.left:
			return
		}
	}
}

// advance goes on to the next segment.
func (s *stripe) advance() error {
	frame, err := s.r.Next()
	switch {
	case err != nil:
		return err
	case frame != wire.FrameSegment:
		return unexpected(frame, "in a moved body")
	case s.r.Rest() == 0 && s.number > 0:
		return fmt.Errorf("an empty segment on stripe %d: %w", s.number, wire.ErrProtocol)
	}
	return nil
}

// next goes to the segment that begins at offset and returns its stripe's reader. An empty segment is the last; then the
// end frame follows on this reader.
func (l *inLane) next(offset uint64) (*wire.Reader, error) {
	if len(l.stripes) > 1 {
		return l.choose(offset)
	}
	l.current = l.stripes[0]
	if err := l.current.advance(); err != nil {
		if isFIN(err) {
			return nil, errNoEnd
		}
		return nil, err
	}
	if at := l.current.r.Offset(); at != offset {
		return nil, misplaced(at, offset)
	}
	return l.current.r, nil
}

var errNoEnd = fmt.Errorf("a moved body ended before its end frame: %w", wire.ErrProtocol)

func misplaced(at, want uint64) error {
	return fmt.Errorf("a segment at %d where %d was due: %w", at, want, wire.ErrProtocol)
}

// choose is next among several stripes.
func (l *inLane) choose(offset uint64) (*wire.Reader, error) {
	if l.current != nil {
		l.mu.Lock()
		l.current.state = reading
		l.mu.Unlock()
		l.current.onward <- struct{}{}
		l.current = nil
	}
	for {
		found, waiting, err := l.look(offset)
		if err != nil {
			return nil, err
		}
		if found != nil {
			l.current = found
			return found.r, nil
		}
		if !waiting {
			return nil, fmt.Errorf("no stripe has what follows at %d: %w", offset, wire.ErrProtocol)
		}
		<-l.changed
	}
}

// look finds the stripe that stands at offset. waiting: one may still come to stand there.
func (l *inLane) look(offset uint64) (found *stripe, waiting bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.stripes {
		switch s.state {
		case reading:
			waiting = true
		case broken:
			return nil, false, s.err
		case ready:
			at := s.r.Offset()
			if at < offset || at == offset && found != nil {
				return nil, false, misplaced(at, offset)
			}
			if at == offset {
				found = s
			}
		}
	}
	return found, waiting, nil
}

// end reads the end frame behind the last segment, where l.current stands.
func (l *inLane) end() (wire.End, error) {
	r := l.current.r
	frame, err := r.Next()
	if err != nil {
		if isFIN(err) {
			err = errNoEnd
		}
		return wire.End{}, err
	}
	if frame != wire.FrameEnd {
		return wire.End{}, unexpected(frame, "after the last segment")
	}
	return r.End()
}

// finish waits, after the end frame, for the FINs that come with it: a transport takes a stream for ended only when its
// reader has seen that. A stripe that has more to say breaks the rules; one that is late is reset, which loses nothing.
func (l *inLane) finish() error {
	until := time.Now().Add(closeTimeout)
	for _, s := range l.stripes {
		_ = s.stream.SetReadDeadline(until)
	}
	var extra error
	for _, s := range l.stripes {
		if s == l.current {
			_, s.err = s.r.Next()
		} else {
			l.settled(s)
		}
		switch {
		case s.err == nil:
			extra = fmt.Errorf("more after the end of a moved body: %w", wire.ErrProtocol)
		case !isFIN(s.err):
			s.stream.Reset(tunnel.ResetCancelled)
		}
	}
	l.leave()
	if extra == nil {
		for _, s := range l.stripes {
			s.r.Reset(nil)
			readers.Put(s.r)
		}
	}
	return extra
}

// settled waits until a stripe does not read any more.
func (l *inLane) settled(s *stripe) {
	for {
		l.mu.Lock()
		state := s.state
		l.mu.Unlock()
		if state != reading {
			return
		}
		<-l.changed
	}
}

// reset gives the streams up; whoever waits for one of them is woken.
func (l *inLane) reset(code tunnel.ResetCode) {
	for _, s := range l.stripes {
		s.stream.Reset(code)
	}
}

// leave ends the goroutines of the stripes, whose streams have ended or were reset.
func (l *inLane) leave() {
	l.once.Do(func() {
		close(l.left)
		if l.moves != nil {
			l.moves.arriving.Add(-1)
		}
	})
	l.running.Wait()
}
