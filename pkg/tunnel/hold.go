package tunnel

import "sync/atomic"

// HeldStreams is how many streams a link takes from its peer before Admit.
const HeldStreams = 1

// Hold counts what a held link takes from its peer. Its zero value is a held link.
type Hold struct {
	admitted atomic.Bool
	streams  atomic.Int64
	bytes    atomic.Int64
}

// Admit lifts the limits.
func (h *Hold) Admit() { h.admitted.Store(true) }

// Admitted reports whether the limits are lifted.
func (h *Hold) Admitted() bool { return h.admitted.Load() }

// Stream counts one stream of the peer and reports whether it may be taken.
func (h *Hold) Stream() bool { return h.admitted.Load() || h.streams.Add(1) <= HeldStreams }

// Bytes counts n bytes of the peer and reports whether they may be taken.
func (h *Hold) Bytes(n int) bool { return h.admitted.Load() || h.bytes.Add(int64(n)) <= HeldBytes }

// Exceeded is the reason for which a link that took too much is closed.
func (h *Hold) Exceeded() Reason {
	return Reason{Code: ReasonProtocol, Message: "too much was sent before the link was admitted"}
}
