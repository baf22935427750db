package controlserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// What a connector may get wrong, and how many of its streams may be without a head at a time (attack cases K1, E8). An
// honest one opens continuations only, of bodies that the edge asked for, and sends each with its head.
const (
	badStreamsPerSecond = 10
	badStreamsAtOnce    = 100
	headlessStreams     = 512
	kindTimeout         = 10 * time.Second
)

// takeStreams hands the continuations that a connector opens to the table of this connector's run, and to no other:
// whatever numbers it writes, only bodies of its own exchanges are there. Any other stream is reset, for only the edge
// opens exchanges. It returns when the link has ended, or ctx has, which ends it.
func (s *Server) takeStreams(ctx context.Context, a *admission) {
	var all sync.WaitGroup
	defer all.Wait()
	limiter := rate.NewLimiter(badStreamsPerSecond, badStreamsAtOnce)
	heads := make(chan struct{}, headlessStreams)
	bad := func() {
		if !limiter.Allow() {
			_ = a.link.Close(tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "too many streams that are not wanted"})
		}
	}
	for {
		stream, err := a.link.Accept(ctx)
		if err != nil {
			return
		}
		if a.moves == nil {
			stream.Reset(tunnel.ResetRefused)
			bad()
			continue
		}
		select {
		case heads <- struct{}{}:
			all.Go(func() {
				defer func() { <-heads }()
				if err := a.continuation(stream); err != nil {
					bad()
				}
			})
		default:
			stream.Reset(tunnel.ResetRefused)
			bad()
		}
	}
}

var errUnwantedKind = errors.New("a connector opens continuations only")

func (a *admission) continuation(stream tunnel.Stream) error {
	err := stream.SetReadDeadline(time.Now().Add(kindTimeout))
	kind, errKind := wire.ReadKind(stream)
	if err = errors.Join(err, errKind); err != nil {
		stream.Reset(tunnel.ResetTimeout)
		return err
	}
	if kind != wire.StreamContinuation {
		stream.Reset(tunnel.ResetRefused)
		return errUnwantedKind
	}
	return a.moves.Continuations.Accept(stream)
}
