package wire

// Lane says which of a connector's links is meant.
type Lane uint32

// The lanes (ARCHITECTURE: two lanes per edge).
const (
	LaneFast Lane = 1 // exchanges; QUIC where there is UDP
	LaneBulk Lane = 2 // bodies over a threshold
)

func (l Lane) valid() bool { return l == LaneFast || l == LaneBulk }

// Moved says that the body goes on, from Offset, on a stream of another link of the same generation.
type Moved struct {
	Offset uint64
	Lane   Lane
}

// Validate refuses what may not travel.
func (m *Moved) Validate() error {
	if !m.Lane.valid() {
		return violationf("moved: lane %d", m.Lane)
	}
	return nil
}

// Continuation is the head of a stream that carries the rest of a moved body.
type Continuation struct {
	Exchange   uint64
	Generation uint64
	Offset     uint64
}

// Validate refuses what may not travel.
func (c *Continuation) Validate() error {
	if c.Exchange == 0 || c.Generation == 0 {
		return violationf("continuation: exchange and generation are required")
	}
	return nil
}
