package exchange

import (
	"context"
	"errors"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// DefaultThreshold is from how many bytes on a body goes on on bulk links.
const DefaultThreshold = 256 << 10

const (
	// moveTimeout bounds how long opening a body's streams, and hearing that the peer has them, may take.
	moveTimeout = time.Second
	// moveSoon is after how many more bytes a body tries again that found no bulk link, or no room: one comes up in the seconds
	// after the first link, and on a line that loses packets the fast lane does not carry much until then. moveAgain is
	// the same where the attempt took time.
	moveSoon, moveAgain = 128 << 10, 4 << 20
	// maxMoving is how many exchanges with one peer may have a body that moved, to their ends, so that an honest side never
	// has more continuations under way than the other one keeps for bodies that have not asked for them yet.
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
	// Lump says how many bytes of the body are best written at once now. nil: as many as there are.
	Lump func() int
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

// begin and end stand around each exchange.
func (m *Moves) begin(key bodyKey) {
	if m == nil {
		return
	}
	m.running.Add(1)
	if m.Continuations != nil {
		m.Continuations.begin(key)
	}
}

func (m *Moves) end(key bodyKey) {
	if m == nil {
		return
	}
	m.running.Add(-1)
	if m.Continuations != nil {
		m.Continuations.end(key)
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

// lead is how many bytes go on where the body is while its streams are opened elsewhere and the peer says that it has
// them: on most lines a good part of that round trip.
func (m *Moves) lead() int64 { return min(m.threshold()/2, DefaultThreshold/2) }

// enter takes one of maxMoving slots, and leave gives it back.
func (m *Moves) enter() error {
	if m.moving.Add(1) > maxMoving {
		m.moving.Add(-1)
		return errBusy
	}
	return nil
}

func (m *Moves) leave() { m.moving.Add(-1) }

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
	var reset *tunnel.ResetError
	switch {
	case errors.Is(err, ErrNoBulk):
		reason = "no_bulk_link"
	case errors.Is(err, errBusy):
		reason = "too_many"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		reason = "timeout"
	case errors.As(err, &reset) && reset.Remote:
		reason = "refused"
	}
	m.stayed.WithLabelValues(string(d), reason).Inc()
}

type direction string

const (
	upload   direction = "upload"
	download direction = "download"
)
