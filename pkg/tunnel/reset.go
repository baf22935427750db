package tunnel

import "fmt"

// ResetCode says why a stream was abandoned.
type ResetCode uint32

// The codes that this version sends; others are passed on as they are.
const (
	ResetCancelled ResetCode = 1 // nobody waits for it any more
	ResetProtocol  ResetCode = 2 // the peer broke the rules on this stream
	ResetRefused   ResetCode = 3 // too many streams, or a kind that is not wanted
	ResetInternal  ResetCode = 4 // a fault of ours
	ResetTimeout   ResetCode = 5 // it took too long
)

func (c ResetCode) String() string {
	switch c {
	case ResetCancelled:
		return "cancelled"
	case ResetProtocol:
		return "protocol"
	case ResetRefused:
		return "refused"
	case ResetInternal:
		return "internal"
	case ResetTimeout:
		return "timeout"
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// ResetError is what Read and Write return after Reset by either side.
type ResetError struct {
	Code ResetCode
	// Remote is true if the peer reset the stream.
	Remote bool
}

func (e *ResetError) Error() string {
	if e.Remote {
		return "stream reset by the peer: " + e.Code.String()
	}
	return "stream reset: " + e.Code.String()
}
