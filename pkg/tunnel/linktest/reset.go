package linktest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// wantReset fails the test unless err is the reset.
func wantReset(t *testing.T, what string, err error, code tunnel.ResetCode, remote bool) {
	t.Helper()
	var reset *tunnel.ResetError
	if !errors.As(err, &reset) || reset.Code != code || reset.Remote != remote {
		t.Errorf("%s: %v; want a reset with code %v, remote %v", what, err, code, remote)
	}
}

// writeUntil writes until it fails.
func writeUntil(s tunnel.Stream) error {
	chunk := make([]byte, 8<<10)
	for {
		if _, err := s.Write(chunk); err != nil {
			return err
		}
	}
}

func testReset(t *testing.T, m Make) {
	p := m.Admitted(t)
	for _, opener := range []End{Dialer, Listener} {
		for _, byOpener := range []bool{true, false} {
			from, to := p.Ends(opener)
			resets, other := joined(t, from, to)
			if !byOpener {
				resets, other = other, resets
			}
			read, written := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := other.Read(make([]byte, 1))
				read <- err
			}()
			go func() { written <- writeUntil(other) }() // blocks on the window: nobody reads
			pass(time.Second)
			resets.Reset(tunnel.ResetTimeout)
			wantReset(t, "the peer's Read", <-read, tunnel.ResetTimeout, true)
			wantReset(t, "the peer's Write", <-written, tunnel.ResetTimeout, true)
			_, err := resets.Read(make([]byte, 1))
			wantReset(t, "our Read", err, tunnel.ResetTimeout, false)
			_, err = resets.Write([]byte{1})
			wantReset(t, "our Write", err, tunnel.ResetTimeout, false)
		}
	}
}

// testResetOvertakes: half a body, read late, must not look like a whole one.
func testResetOvertakes(t *testing.T, m Make) {
	p := m.Admitted(t)
	for range 50 {
		a, b := joined(t, p.Accepted, p.Dialed)
		if _, err := a.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		a.Reset(tunnel.ResetCancelled)
		_, err := io.Copy(io.Discard, b)
		wantReset(t, "a reader who comes late", err, tunnel.ResetCancelled, true)
	}
}

func testLateReset(t *testing.T, m Make) {
	p := m.Admitted(t)
	a, b := joined(t, p.Dialed, p.Accepted)
	if err := send(b, 1, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := send(a, 2, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := receive(a, 1, 100_000); err != nil {
		t.Fatal(err)
	}
	a.Reset(tunnel.ResetCancelled) // both directions have ended here; what is under way must arrive
	if err := receive(b, 2, 100_000); err != nil {
		t.Error(err)
	}
}

// testResetCredit opens and abandons more streams than may be open, in every way; credit must come back.
func testResetCredit(t *testing.T, m Make) {
	p := m.Admitted(t)
	for i := range 1500 {
		a, b := joined(t, p.Dialed, p.Accepted)
		switch i % 5 {
		case 0:
			a.Reset(tunnel.ResetCancelled)
			_, err := b.Read(make([]byte, 1))
			wantReset(t, "read", err, tunnel.ResetCancelled, true)
		case 1:
			b.Reset(tunnel.ResetCancelled)
			_, err := a.Read(make([]byte, 1))
			wantReset(t, "read", err, tunnel.ResetCancelled, true)
		case 2:
			a.Reset(tunnel.ResetCancelled)
			b.Reset(tunnel.ResetInternal)
		case 3:
			_ = a.CloseWrite()
			a.Reset(tunnel.ResetCancelled)
			wantReset(t, "write", writeUntil(b), tunnel.ResetCancelled, true)
		case 4:
			if err := exchange(a, b, 10); err != nil {
				t.Fatal(err)
			}
		}
		if t.Failed() {
			t.Fatalf("stream %d", i)
		}
	}
}

// testCredit opens more streams than the listener takes at once.
func testCredit(t *testing.T, m Make) {
	p := m.Admitted(t)
	var opened []tunnel.Stream
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		s, err := p.Dialed.Open(ctx)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("open beyond the credit: %v", err)
			}
			break
		}
		opened = append(opened, s)
		if len(opened) > 100_000 {
			t.Fatal("no limit")
		}
	}
	if len(opened) < 100 {
		t.Fatalf("only %d streams at once", len(opened))
	}
	got := make(chan error, 1)
	go func() {
		s, err := p.Dialed.Open(t.Context())
		if err == nil {
			s.Reset(tunnel.ResetCancelled)
		}
		got <- err
	}()
	if _, err := opened[0].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	accepted := accept(t, p.Accepted)
	if err := exchange(opened[0], &skipFirst{Stream: accepted}, 100); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("open after a stream has ended: %v", err)
	}
}

// skipFirst drops the byte that made a stream visible.
type skipFirst struct {
	tunnel.Stream
	skipped bool
}

func (s *skipFirst) Read(p []byte) (int, error) {
	if !s.skipped {
		s.skipped = true
		if _, err := io.ReadFull(s.Stream, make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return s.Stream.Read(p)
}
