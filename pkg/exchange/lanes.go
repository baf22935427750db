package exchange

import (
	"fmt"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// A moved body goes on on a stream of another link of the same edge and generation: its sender opens that stream with
// a Continuation, and a Moved frame here says from which offset. Neither side announces wire.FeatureMoved, so a Moved
// frame breaks the rules. Whoever builds it starts here and in body.next: look the continuation up by exchange and
// generation, check the offset against body.got, and go on with its reader.

// refuseMoved reads the present Moved frame and returns why it is refused.
func refuseMoved(r *wire.Reader) error {
	moved, err := r.Moved()
	if err != nil {
		return err
	}
	return fmt.Errorf("moved to lane %d at %d: not negotiated: %w", moved.Lane, moved.Offset, wire.ErrProtocol)
}

func unexpected(frame wire.FrameType, where string) error {
	return fmt.Errorf("%v %s: %w", frame, where, wire.ErrProtocol)
}
