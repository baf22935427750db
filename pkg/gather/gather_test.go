package gather_test

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/gather"
)

// socket notes each write, and fails once it is told to.
type socket struct {
	net.Conn
	writes [][]byte
	err    error
}

func (s *socket) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, bytes.Clone(p))
	return len(p), nil
}

func write(t *testing.T, c *gather.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", text, n, err)
	}
}

func TestWhatIsHeldLeavesInOneWrite(t *testing.T) {
	s := &socket{}
	c := gather.NewConn(s)
	write(t, c, "a")
	c.Hold()
	write(t, c, "b")
	c.Hold()
	write(t, c, "c")
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	write(t, c, "d")
	if len(s.writes) != 1 {
		t.Fatalf("%d writes while held", len(s.writes))
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	write(t, c, "e")
	if got := bytes.Join(s.writes, []byte("|")); string(got) != "a|bcd|e" {
		t.Errorf("written: %q", got)
	}
}

// What is gathered is bounded, and stays in its order.
func TestMoreThanTheLimitLeavesBefore(t *testing.T) {
	s := &socket{}
	c := gather.NewConn(s)
	var want []byte
	c.Hold()
	for i, size := range []int{gather.Limit - 1, 2, gather.Limit + 1, 1} {
		p := bytes.Repeat([]byte{byte(i)}, size)
		want = append(want, p...)
		write(t, c, string(p))
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Join(s.writes, nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came out of order", len(got))
	}
	for _, w := range s.writes {
		if len(w) > gather.Limit+1 {
			t.Errorf("a write of %d bytes", len(w))
		}
	}
}

// A write that was said to be done and was not must not be followed by others: TLS would go on behind a gap.
func TestAfterAFailureNothingIsWritten(t *testing.T) {
	s := &socket{err: net.ErrClosed}
	c := gather.NewConn(s)
	c.Hold()
	write(t, c, "lost")
	if err := c.Release(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Release: %v", err)
	}
	s.err = nil
	if _, err := c.Write([]byte("behind the gap")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	c.Hold()
	if err := c.Release(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the next Release: %v", err)
	}
	if len(s.writes) != 0 {
		t.Errorf("written: %q", s.writes)
	}
}
