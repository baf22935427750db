// Package exchange owns one request and its answer over a stream of a link: heads, body frames with their explicit
// length, interim answers, trailers, upgrade, cancel, and that a body which was broken off never reads like a whole
// one. Do is the edge's side, Serve the connector's; both carry what they are given and decide nothing.
//
// Large bodies go on on other links where a Lanes opens them (DESIGN.md): lanes.go sends them, stripes.go receives them,
// continuations.go is where both meet.
//
// It does not choose links or sockets, knows no HTTP types, judges no assertion, and logs nothing.
package exchange

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Opener opens the stream of an exchange; a tunnel.Link is one.
type Opener interface {
	Open(ctx context.Context) (tunnel.Stream, error)
}

const (
	// holdBack is how long bytes wait for company before they leave, so that head and small body share one write.
	holdBack = 5 * time.Millisecond
	// flushSize is from how many bytes on a write is worth leaving at once.
	flushSize = 4 << 10
	// maxInterims is how many informational answers one exchange may bring.
	maxInterims = 32
	// headTimeout bounds the wait for the head on a stream that the peer opened.
	headTimeout = 10 * time.Second
	// abortTimeout bounds how long saying why may take before a reset says that much.
	abortTimeout = 5 * time.Second
	// closeTimeout bounds the wait for the end frame of a body that was read to its declared length and closed.
	closeTimeout = time.Second
	// probeEvery is how often Serve asks the stream whether the peer still wants the answer, while nobody can be
	// sure to read from it because the request's body is not finished.
	probeEvery = 2 * time.Second
)
