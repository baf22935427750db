package exchange

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// DefaultThreshold is from how many bytes on a body goes on on bulk links.
const DefaultThreshold = 256 << 10

const (
	// moveTimeout bounds how long a body stands still while its streams are opened.
	moveTimeout = time.Second
	// moveAgain is after how many more bytes a body that had to stay tries again: a bulk link may have come up.
	moveAgain = 4 << 20
	// maxMoving is how many bodies may move to one peer at a time, so that an honest side never has more continuations
	// under way than the other one keeps for bodies that have not asked for them yet.
	maxMoving = 64
	never     = math.MaxInt64
)

// errBusy says that maxMoving bodies have moved already.
var errBusy = errors.New("too many bodies have moved")

// ErrNoBulk says that there is no other link to move to.
var ErrNoBulk = errors.New("no bulk link")

// Lanes opens streams for bodies that move: what an exchange is opened on at the edge, the links to one edge process at
// the connector.
type Lanes interface {
	// Move opens the streams on which one large body goes on: one or several (stripes, at most wire.MaxStripes), each
	// best on another bulk link of the same edge, connector and generation. Any error leaves the body where it is; it is
	// ErrNoBulk where there is no such link. ctx ends after a second.
	Move(ctx context.Context) (*Move, error)
}

// Move is where one body goes on.
type Move struct {
	Streams []tunnel.Stream
	// Wait paces: it is called before n bytes of the body are written, by one goroutine at a time, and returns when they
	// may leave, or with ctx's error. nil: unpaced.
	Wait func(ctx context.Context, n int) error
	// Done is called once when the body has ended and the streams are not used any more. nil: nothing.
	Done func()
}

// Moves says how large bodies of exchanges with one peer move to other links; all of them share it. A nil *Moves lets
// none: the peer did not name wire.FeatureMoved.
type Moves struct {
	// Lanes takes the bodies that this side sends; nil: they stay.
	Lanes Lanes
	// Continuations is where the bodies that the peer sends come in; nil: a peer that moves one breaks the rules.
	Continuations *Continuations
	// Threshold is how large a body is left alone, in bytes: one that is declared larger moves at once, one of unknown
	// length when it grows past. 0 means DefaultThreshold, a negative one moves everything.
	Threshold int64
	// Metrics may be nil.
	Metrics *Metrics

	// running counts exchanges with the peer, moving the bodies that this side sends on bulk, arriving those that come so.
	running, moving, arriving atomic.Int64
}

// begin and end count an exchange.
func (m *Moves) begin() {
	if m != nil {
		m.running.Add(1)
	}
}

func (m *Moves) end() {
	if m != nil {
		m.running.Add(-1)
	}
}

// unmoved is how many exchanges run whose bodies are where they began; about, for an exchange may move one in each direction.
func (m *Moves) unmoved() int {
	return int(max(m.running.Load()-m.moving.Load()-m.arriving.Load(), 0))
}

func (m *Moves) threshold() int64 {
	switch {
	case m.Threshold < 0:
		return 0
	case m.Threshold == 0:
		return DefaultThreshold
	}
	return m.Threshold
}

// move takes a slot, which done gives back, and opens streams.
func (m *Moves) move(ctx context.Context) (*Move, error) {
	if m.moving.Add(1) > maxMoving {
		m.moving.Add(-1)
		return nil, errBusy
	}
	move, err := m.Lanes.Move(ctx)
	if err != nil {
		m.moving.Add(-1)
	}
	return move, err
}

func (m *Moves) done(move *Move) {
	m.moving.Add(-1)
	if move.Done != nil {
		move.Done()
	}
}

// accepts says that the peer may move a body.
func (m *Moves) accepts() bool { return m != nil && m.Continuations != nil }

// Metrics count bodies that moved, and why others did not.
type Metrics struct{ moved, stayed *prometheus.CounterVec }

// NewMetrics registers them.
func NewMetrics(r *metric.Registry) *Metrics {
	return &Metrics{
		moved: r.Counter("sallyport_exchange_moved_total",
			"Large bodies that went on on another lane, by direction (upload, download) and lane.", "direction", "lane"),
		stayed: r.Counter("sallyport_exchange_stayed_total",
			"Large bodies that this side had to send on the fast lane, by direction and reason.", "direction", "reason"),
	}
}

func (m *Metrics) noteMoved(d direction) {
	if m != nil {
		m.moved.WithLabelValues(string(d), "bulk").Inc()
	}
}

func (m *Metrics) noteStayed(d direction, err error) {
	if m == nil {
		return
	}
	reason := "failed"
	switch {
	case errors.Is(err, ErrNoBulk):
		reason = "no_bulk_link"
	case errors.Is(err, errBusy):
		reason = "too_many"
	case errors.Is(err, context.DeadlineExceeded):
		reason = "timeout"
	}
	m.stayed.WithLabelValues(string(d), reason).Inc()
}

type direction string

const (
	upload   direction = "upload"
	download direction = "download"
)

// mover decides when one outgoing body moves.
type mover struct {
	moves     *Moves
	direction direction
	// exchange and generation name the exchange to the peer.
	exchange, generation uint64
	// at is how large the body may grow before it moves.
	at     int64
	stayed bool // counted already
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

// due says that the body has to move before n more bytes; sent is how many went out.
func (m *mover) due(sent int64, n int) bool { return sent+int64(n) > m.at }

// try moves the body of s, of which sent bytes have been given to s. If that fails the body goes on where it is, and
// nobody notices; if even that fails, the next write does.
func (m *mover) try(ctx context.Context, s *sender, sent int64) {
	m.at = never
	err := s.leave(ctx, m, sent)
	if err == nil {
		m.moves.Metrics.noteMoved(m.direction)
		return
	}
	if !m.stayed && ctx.Err() == nil {
		m.stayed = true
		m.moves.Metrics.noteStayed(m.direction, err)
	}
	m.at = sent + moveAgain
}
