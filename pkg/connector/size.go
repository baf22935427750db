package connector

import (
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// How many links a lane has. One connection that a whole clinic shares is the bottleneck where packets are lost: each loss halves
// what all of it may send. An idle connector costs the edge one link a lane.
const (
	// maxFast and maxBulk bound the links of a lane to one edge.
	maxFast = 4
	maxBulk = 6
	// fastLoad is how many exchanges a fast link is to run at most while another may be opened.
	fastLoad = 4
	// growEvery is the least time between two links that are opened for load.
	growEvery = 250 * time.Millisecond
	// local is the round trip of a path that is no line: no packet is lost there, and a second link is processor time for nothing.
	local      = time.Millisecond
	fastQuiet  = time.Minute
	bulkQuiet  = 30 * time.Second
	warmFor    = 10 * time.Minute
	linger     = 10 * time.Second
	turnWithin = 5 * time.Second
)

// shrinking is how long lanes take to shrink.
type shrinking struct {
	// fast and bulk are how long the load must have been low before links are given up.
	fast, bulk time.Duration
	// linger is how long a link that takes nothing new must have been without work before it is closed: the edge may have
	// chosen it before it read so, and the last bytes may still be on their way.
	linger time.Duration
	// warm is how long after its last exchange a clinic counts as at work: where TCP slows down with each lost packet, its bulk
	// links are up before a body needs them, because one that has begun takes no further links.
	warm time.Duration
	// spread bounds for how long, after its fast lane is up again, a bulk lane that lost its links leaves the edge to those that
	// have no link at all. The first exchange ends the wait.
	spread time.Duration
	// local is below which least round trip a path is no line.
	local time.Duration
}

func defaultShrinking() shrinking {
	return shrinking{fast: fastQuiet, bulk: bulkQuiet, linger: linger, warm: warmFor, spread: turnWithin, local: local}
}

// size decides how many links a lane is to have; step is a pure function of it and its arguments.
type size struct {
	most  int
	load  int // how much one link is to carry at most; 0: any load wants all links
	quiet time.Duration

	links int // what is decided; 0 is 1
	grown time.Time
	// low is since when the load has been below half of what the links are for, zero while it is not; peak is the most since.
	low  time.Time
	peak int
}

// step returns how many links there are to be at now, with running exchanges or bodies on up links.
func (s *size) step(now time.Time, running, up int) int {
	s.links = max(s.links, 1)
	switch {
	case running > s.load*s.links && s.links < s.most:
		s.low = time.Time{}
		// A link that is still missing shows first what it brings.
		if up >= s.links && now.Sub(s.grown) >= growEvery {
			s.links++
			s.grown = now
		}
	case s.links == 1 || running > 0 && 2*running >= s.load*s.links:
		s.low = time.Time{}
	case s.low.IsZero():
		s.low, s.peak = now, running
	default:
		s.peak = max(s.peak, running)
		if now.Sub(s.low) >= s.quiet {
			s.links = min(s.links-1, max(1, (s.peak+s.load-1)/max(s.load, 1)))
			s.low, s.peak = now, running
		}
	}
	return s.links
}

// watch is when to step again: never where nothing can change by time alone.
func (s *size) watch(running int) time.Duration {
	if s.links > 1 || running > s.load {
		return growEvery
	}
	return idle
}

// work is what one link carries.
type work struct {
	in  atomic.Int64 // streams of the edge: exchanges and bodies that it sends
	out atomic.Int64 // bodies that this side sends
	// woken is called when one more has come than one link is for; it must not block.
	woken func()
	load  int64
	// used is told of each exchange of the link; nil for nobody. It must not block.
	used func()
}

// exchange notes that an exchange begins.
func (w *work) exchange() {
	if w.used != nil {
		w.used()
	}
}

func (w *work) begin(n *atomic.Int64) {
	if n.Add(1) == w.load+1 && w.woken != nil {
		w.woken()
	}
}

// moving counts bodies that this side sends on a bulk link.
func (w *work) moving(delta int) {
	if delta > 0 {
		w.begin(&w.out)
		return
	}
	w.out.Add(-1)
}

func (w *work) idle() bool { return w.in.Load() == 0 && w.out.Load() == 0 }

// demand is what of a link's work other links would carry better: none on a path of a round trip below local. A TCP connection
// that is sent on with BBR is not slowed by a lost packet, and needs no other one beside it.
func (h *held) demand(local time.Duration) int {
	if measured, ok := h.Link.Link.(tunnel.Measured); ok {
		if least := measured.Path().Least; least > 0 && least < local {
			return 0
		}
	}
	if h.lane != tunnelv1.Lane_LANE_BULK {
		return int(h.work.in.Load())
	}
	n := int64(0)
	if h.Info().Congestion != tunnel.CongestionBBR {
		n += h.work.out.Load()
	}
	if !h.BBR {
		n += h.work.in.Load()
	}
	return int(n)
}

// slow says that a lost packet slows down what is sent on this link, by one side at least.
func (h *held) slow() bool { return h.Info().Congestion != tunnel.CongestionBBR || !h.BBR }

// counted is a body that the edge sends on a bulk link: it is work until it has been read or given up.
type counted struct {
	tunnel.Stream
	over atomic.Bool
	done func()
}

func (c *counted) end() {
	if c.over.CompareAndSwap(false, true) {
		c.done()
	}
}

// Read implements tunnel.Stream.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

// Reset implements tunnel.Stream.
func (c *counted) Reset(code tunnel.ResetCode) {
	c.Stream.Reset(code)
	c.end()
}
