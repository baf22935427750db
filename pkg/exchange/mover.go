package exchange

import (
	"context"
	"errors"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// mover takes one outgoing body to other links: it decides when, has the streams opened while the body goes on where it
// is, and has it go on there once the peer has said that it took every one of them. So nothing but speed depends on a
// move: a limit, a dead link or a slow one leaves the body where it is. Its methods are called by whoever writes the body.
type mover struct {
	moves     *Moves
	direction direction
	// exchange and generation name the exchange to the peer.
	exchange, generation uint64
	// at is how large the body may grow before it begins to move.
	at     int64
	stayed bool // counted already
	// leaving is the move that has begun.
	leaving *leaving
	entered bool // a slot of moves is taken
}

// leaving is a move that has begun: at is where the body goes on elsewhere. lane and err are set when done is closed.
type leaving struct {
	at     int64
	cancel context.CancelFunc
	done   chan struct{}
	lane   *outLane
	err    error
}

func newMover(m *Moves, d direction, head *wire.RequestHead) mover {
	return mover{moves: m, direction: d, exchange: head.Exchange, generation: head.Generation, at: never}
}

// declared sets when the body moves, by its length; -1 if that is not known.
func (m *mover) declared(length int64) {
	if m.moves == nil || m.moves.Lanes == nil || m.exchange == 0 || m.generation == 0 {
		return
	}
	switch threshold := m.moves.threshold(); {
	case length < 0:
		m.at = threshold
	case length > threshold:
		m.at = 0
	}
}

// step is called before bytes behind the first sent ones are given to s, n of them, and returns how many may be.
func (m *mover) step(ctx context.Context, s *sender, sent int64, n int) int {
	if m.leaving == nil && sent >= m.at {
		m.begin(ctx, s, sent)
	}
	m.join(ctx, s, sent)
	next := m.at
	if m.leaving != nil {
		next = m.leaving.at
	}
	return int(min(int64(n), next-sent))
}

// begin has the streams opened.
func (m *mover) begin(ctx context.Context, s *sender, sent int64) {
	l := &leaving{at: sent + m.moves.lead(), done: make(chan struct{})}
	m.leaving, m.at = l, never
	if l.err = m.enter(); l.err != nil {
		l.at, l.cancel = sent, func() {}
		close(l.done)
		return
	}
	var opening context.Context
	opening, l.cancel = context.WithTimeout(ctx, moveTimeout)
	go func() {
		defer close(l.done)
		defer l.cancel()
		var move *Move
		if move, l.err = m.moves.Lanes.Move(opening); l.err == nil {
			l.lane, l.err = newOutLane(ctx, opening, move, m, l.at, s.breakOff)
		}
	}()
}

// enter takes a slot, once.
func (m *mover) enter() error {
	if m.entered {
		return nil
	}
	err := m.moves.enter()
	m.entered = err == nil
	return err
}

// join has the body of s go on elsewhere if this is where, and waits for that: until the second that a move may take is
// over. If it comes to nothing the body goes on where it is, and nobody notices; if even that fails, the next write does.
func (m *mover) join(ctx context.Context, s *sender, sent int64) {
	l := m.leaving
	if l == nil || sent < l.at {
		return
	}
	<-l.done
	m.leaving = nil
	err := l.err
	if err == nil {
		err = s.enter(l.lane)
	}
	if err == nil {
		m.moves.Metrics.noteMoved(m.direction)
		return
	}
	m.exit()
	if !m.stayed && ctx.Err() == nil {
		m.stayed = true
		m.moves.Metrics.noteStayed(m.direction, err)
	}
	m.at = sent + moveAgain
	if errors.Is(err, ErrNoBulk) || errors.Is(err, errBusy) {
		m.at = sent + moveSoon
	}
}

// giveUp ends a move that has begun, and which the body did not live to see.
func (m *mover) giveUp() {
	l := m.leaving
	if l == nil {
		return
	}
	m.leaving, m.at = nil, never
	l.cancel()
	<-l.done
	if l.lane != nil {
		l.lane.close()
	}
}

// exit gives the slot back. After a move it is due when the exchange is over: only then has the peer read what it keeps.
func (m *mover) exit() {
	if m.entered {
		m.entered = false
		m.moves.leave()
	}
}
