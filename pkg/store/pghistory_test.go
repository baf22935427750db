package store

import "testing"

// What a peer or a file says is read in the one way that it is written, or refused.
func FuzzParseHistory(f *testing.F) {
	for _, text := range []string{"7712821908610371804/2", "1/1", "", "/", "1/0", "-1/2", "1/2/3", "1/4294967296", "x/1", "01/1", "1/02", "0/1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHistory(text)
		if err != nil {
			if !h.IsZero() {
				t.Errorf("%q: refused, and read as %v", text, h)
			}
			return
		}
		if h.String() != text || h.Timeline < 1 {
			t.Errorf("%q is read as %v", text, h)
		}
	})
}
