package wire

// Lane says which of a connector's links is meant.
type Lane uint32

// The lanes (ARCHITECTURE: two lanes per edge).
const (
	LaneFast Lane = 1 // exchanges; QUIC where there is UDP
	LaneBulk Lane = 2 // bodies over a threshold
)

func (l Lane) valid() bool { return l == LaneFast || l == LaneBulk }

// Moved says that the body goes on, from Offset, on streams of other links of the same generation.
type Moved struct {
	Offset uint64
	Lane   Lane
	// Stripes is how many streams; 0 is one.
	Stripes uint32
}

// Validate refuses what may not travel.
func (m *Moved) Validate() error {
	if !m.Lane.valid() {
		return violationf("moved: lane %d", m.Lane)
	}
	if m.Stripes > MaxStripes {
		return violationf("moved: %d stripes, the limit is %d", m.Stripes, MaxStripes)
	}
	return nil
}

// Continuation is the head of a stream that carries the rest, or a share of the rest, of a moved body.
type Continuation struct {
	Exchange   uint64
	Generation uint64
	// Offset is where the body left the exchange's own stream.
	Offset uint64
	// Stripe is which of Stripes streams this one is, from 0.
	Stripe  uint32
	Stripes uint32
}

// Validate refuses what may not travel.
func (c *Continuation) Validate() error {
	if c.Exchange == 0 || c.Generation == 0 {
		return violationf("continuation: exchange and generation are required")
	}
	if c.Stripes > MaxStripes || c.Stripe >= max(c.Stripes, 1) {
		return violationf("continuation: stripe %d of %d", c.Stripe, c.Stripes)
	}
	return nil
}
