package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func segment(t *testing.T, offset uint64, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	if err := errors.Join(w.Segment(offset, body), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A segment that is there is read at once, so that it leaves in one write: not what came with its header first.
func TestASegmentIsReadAtOnce(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 6000)
	r := wire.NewReader(bytes.NewReader(append(segment(t, 0, body), segment(t, 60_000, body)...)))
	for range 2 {
		if frame, err := r.Next(); frame != wire.FrameSegment || err != nil {
			t.Fatal(frame, err)
		}
		p := make([]byte, 64<<10)
		if n, err := r.Read(p); err != nil || !bytes.Equal(p[:n], body) {
			t.Errorf("Read = %d, %v", n, err)
		}
		if n, err := r.Read(p); n != 0 || err != io.EOF {
			t.Errorf("after its end: %d, %v", n, err)
		}
	}
}

func TestASegmentThatBreaksOffGivesWhatCame(t *testing.T) {
	broken := errors.New("the link ended")
	came := segment(t, 0, make([]byte, 60_000))[:20_000]
	r := wire.NewReader(io.MultiReader(bytes.NewReader(came), failing{broken}))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	p, got := make([]byte, 64<<10), 0
	for {
		n, err := r.Read(p)
		got += n
		if err != nil {
			if !errors.Is(err, broken) {
				t.Error(err)
			}
			break
		}
	}
	if want := len(came) - wire.SegmentHeaderSize; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
