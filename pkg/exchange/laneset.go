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

// LaneSet is the links to one peer, by lane: large bodies move to its bulk links, and are paced by what its fast links show.
// It is safe for concurrent use.
type LaneSet struct {
	moves *Moves
	pacer *pace.Pacer

	mu     sync.Mutex // guards all below
	fast   []tunnel.Link
	bulk   []tunnel.Link
	probed time.Time
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

// Add adds a link.
func (s *LaneSet) Add(link tunnel.Link, bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bulk {
		s.bulk = append(s.bulk, link)
		return
	}
	s.fast = append(s.fast, link)
}

// Remove takes a link out, of whatever lane.
func (s *LaneSet) Remove(link tunnel.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(l tunnel.Link) bool { return l == link }
	s.fast, s.bulk = slices.DeleteFunc(s.fast, same), slices.DeleteFunc(s.bulk, same)
}

// Move implements Lanes: a stream on each bulk link that opens one, all paced as one body.
func (s *LaneSet) Move(ctx context.Context) (*Move, error) {
	s.mu.Lock()
	links := slices.Clone(s.bulk)
	s.mu.Unlock()
	move, err := moveTo(ctx, links[:min(len(links), wire.MaxStripes)])
	if err != nil {
		return nil, err
	}
	flow := s.pacer.Flow()
	move.Wait, move.Done = flow.Wait, flow.Close
	return move, nil
}

// moveTo is a Move to a stream on each of links that opens one; ErrNoBulk if there is none.
func moveTo(ctx context.Context, links []tunnel.Link) (*Move, error) {
	move := &Move{}
	err := error(ErrNoBulk)
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

// sample is what pacing goes by. Where the fast links show nothing of the network, nothing counts as queueing.
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
		if path.Least > 0 && (out.Queue < 0 || path.Latest-path.Least < out.Queue) {
			out.Queue = path.Latest - path.Least
		}
		if probe {
			measured.Probe()
		}
	}
	return out
}
