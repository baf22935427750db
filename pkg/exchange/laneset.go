package exchange

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/pace"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// probeLane is how often the fast lane is made to show its round trip while bulk is paced by it.
const probeLane = 25 * time.Millisecond

// local is the round trip of a path that is no line: below it the peer is in the same building, and what a packet waits, it waits
// for a busy processor. To yield to that would leave bulk its least for nothing.
const local = time.Millisecond

// A body is spread over the bulk links that there are when it moves, and takes no further one later. Where a lost packet slows a
// link down, those that come up one after the other are waited for: until none has for settle, forming at most.
const settle, forming = time.Second, 5 * time.Second

// LaneSet is the links to one peer, by lane: large bodies move to its bulk links, and are paced by what its fast links show.
// It is safe for concurrent use.
type LaneSet struct {
	moves *Moves
	pacer *pace.Pacer

	mu     sync.Mutex // guards all below
	fast   []tunnel.Link
	bulk   []bulkLink
	probed time.Time
	// began is since when there are bulk links, joined when the newest one came.
	began, joined time.Time
}

var _ Lanes = (*LaneSet)(nil)

// NewLaneSet returns a set without links. threshold is Moves.Threshold.
func NewLaneSet(threshold int64, metrics *Metrics) *LaneSet {
	s := &LaneSet{}
	s.pacer = pace.New(s.sample)
	s.moves = &Moves{Lanes: s, Continuations: NewContinuations(), Threshold: threshold, Metrics: metrics}
	return s
}

// Moves is what exchanges with the peer are given.
func (s *LaneSet) Moves() *Moves { return s.moves }

// Pacing tells how bulk is paced now.
func (s *LaneSet) Pacing() pace.State { return s.pacer.State() }

// bulkLink is a link that bodies move to.
type bulkLink struct {
	tunnel.Link
	moving func(delta int)
}

// Add adds a link. moving, if it is set, is told for a bulk link of each body that this side begins (1) or ends (-1) to send on
// it, and of none that begins after Remove; it must not block, nor call the set.
func (s *LaneSet) Add(link tunnel.Link, bulk bool, moving func(delta int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bulk {
		if moving == nil {
			moving = func(int) {}
		}
		s.joined = time.Now()
		if len(s.bulk) == 0 {
			s.began = s.joined
		}
		s.bulk = append(s.bulk, bulkLink{link, moving})
		return
	}
	s.fast = append(s.fast, link)
}

// Remove takes a link out, of whatever lane.
func (s *LaneSet) Remove(link tunnel.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fast = slices.DeleteFunc(s.fast, func(l tunnel.Link) bool { return l == link })
	s.bulk = slices.DeleteFunc(s.bulk, func(l bulkLink) bool { return l.Link == link })
}

// growing says that the bulk links are still coming up and that a body does better to wait for them; the caller holds mu.
func (s *LaneSet) growing() bool {
	slow := func(l bulkLink) bool {
		used := l.Info().Congestion
		return used != "" && used != tunnel.CongestionBBR
	}
	return time.Since(s.joined) < settle && time.Since(s.began) < forming && slices.ContainsFunc(s.bulk, slow)
}

// Move implements Lanes: a stream on each bulk link that opens one, all paced as one body.
func (s *LaneSet) Move(ctx context.Context) (*Move, error) {
	s.mu.Lock()
	if s.growing() {
		s.mu.Unlock()
		return nil, ErrNoBulk
	}
	links := slices.Clone(s.bulk[:min(len(s.bulk), wire.MaxStripes)])
	tell(links, 1)
	s.mu.Unlock()
	move, err := moveTo(ctx, links)
	if err != nil {
		tell(links, -1)
		return nil, err
	}
	flow := s.pacer.Flow()
	move.Wait, move.Lump, move.Done = flow.Wait, flow.Lump, func() {
		flow.Close()
		tell(links, -1)
	}
	return move, nil
}

func tell(links []bulkLink, delta int) {
	for _, l := range links {
		l.moving(delta)
	}
}

// moveTo is a Move to a stream on each of links that opens one; ErrNoBulk if there is none.
func moveTo(ctx context.Context, links []bulkLink) (*Move, error) {
	move := &Move{}
	err := ErrNoBulk
	for _, link := range links {
		var stream tunnel.Stream
		if stream, err = link.Open(ctx); err == nil {
			move.Streams = append(move.Streams, stream)
		}
	}
	if len(move.Streams) == 0 {
		return nil, err
	}
	return move, nil
}

// sample is what pacing goes by. On a path without a line, and where the fast links show nothing of the network, nothing counts as queueing.
func (s *LaneSet) sample() pace.Sample {
	out := pace.Sample{Queue: -1, Exchanges: s.moves.unmoved()}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	probe := now.Sub(s.probed) >= probeLane
	if probe {
		s.probed = now
	}
	for _, link := range s.fast {
		measured, ok := link.(tunnel.Measured)
		if !ok {
			continue
		}
		path := measured.Path()
		out.Sent += path.Sent
		if path.Least >= local && (out.Queue < 0 || path.Latest-path.Least < out.Queue) {
			out.Queue = path.Latest - path.Least
		}
		if probe {
			measured.Probe()
		}
	}
	return out
}
