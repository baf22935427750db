package wslink

import "testing"

// TestFramesInPieces finds pings, streams and what comes on the control stream between data that looks like pings, however the bytes
// are cut.
func TestFramesInPieces(t *testing.T) {
	ping := []byte{0, yamuxPing, 0, yamuxSYN, 0, 0, 0, 0, 0, 0, 0, 7}
	answer := []byte{0, yamuxPing, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7}
	update := []byte{0, 1, 0, 1, 0, 0, 0, 2, 0, 4, 0, 0}
	data := append([]byte{0, yamuxData, 0, 0, 0, 0, 0, 2, 0, 0, 0, 36}, append(append(append([]byte{}, ping...), ping...), ping...)...)
	control := append([]byte{0, yamuxData, 0, 0, 0, 0, 0, controlStream, 0, 0, 0, 36}, data[yamuxHeader:]...)
	first := append([]byte{0, yamuxData, 0, 0, 0, 0, 0, firstStream, 0, 0, 0, 36}, data[yamuxHeader:]...)
	last := append([]byte{0, yamuxData, 0, yamuxFIN, 0, 0, 0, controlStream, 0, 0, 0, 9}, ping[:9]...)
	var all []byte
	for _, frame := range [][]byte{update, ping, data, answer, control, first, data, ping, last} {
		all = append(all, frame...)
	}
	for size := 1; size <= len(all); size++ {
		var f frames
		var got begun
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			what := f.follow(rest[:n])
			got.first += what.first
			got.pings, got.streams, got.control = got.pings+what.pings, got.streams+what.streams, got.control+what.control
			rest = rest[n:]
		}
		if want := (begun{pings: 2, streams: 1, control: 36 + 9 + endless, first: 36}); got != want {
			t.Errorf("in pieces of %d: %+v, want %+v", size, got, want)
		}
	}
}
