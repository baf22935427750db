package wslink

import "testing"

// TestFramesInPieces finds the pings between data that looks like pings, however the bytes are cut.
func TestFramesInPieces(t *testing.T) {
	ping := []byte{0, yamuxPing, 0, yamuxSYN, 0, 0, 0, 0, 0, 0, 0, 7}
	answer := []byte{0, yamuxPing, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7}
	update := []byte{0, 1, 0, 1, 0, 0, 0, 2, 0, 4, 0, 0}
	data := append([]byte{0, yamuxData, 0, 0, 0, 0, 0, 2, 0, 0, 0, 36}, append(append(append([]byte{}, ping...), ping...), ping...)...)
	var all []byte
	for _, frame := range [][]byte{update, ping, data, answer, data, ping} {
		all = append(all, frame...)
	}
	for size := 1; size <= len(all); size++ {
		var f frames
		asked := 0
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			asked += f.pings(rest[:n])
			rest = rest[n:]
		}
		if asked != 2 {
			t.Errorf("in pieces of %d: %d pings, want 2", size, asked)
		}
	}
}
