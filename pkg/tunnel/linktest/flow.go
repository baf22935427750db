package linktest

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func testHalfClose(t *testing.T, m Make) {
	p := m.Admitted(t)
	for _, end := range []End{Dialer, Listener} {
		from, to := p.Ends(end)
		first, second := joined(t, from, to)
		for range 2 { // the opener ends first, then the other one does
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := second.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("after CloseWrite: %d bytes, %v", n, err)
			}
			pass(10 * time.Minute) // as long as it likes: libraries kill half-closed streams after some minutes
			sent := make(chan error, 1)
			go func() { sent <- send(second, 1, 3_000_000) }()
			if err := receive(first, 1, 3_000_000); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			second, first = joined(t, from, to)
		}
		first.Reset(tunnel.ResetCancelled)
	}
}

func testFlowControl(t *testing.T, m Make) {
	p := m.Admitted(t)
	for _, end := range []End{Dialer, Listener} {
		from, to := p.Ends(end)
		writer, stopped := joined(t, from, to)
		var written atomic.Int64
		result := make(chan error, 1)
		go func() {
			chunk := make([]byte, 64<<10)
			for {
				n, err := writer.Write(chunk)
				written.Add(int64(n))
				if err != nil {
					result <- err
					return
				}
			}
		}()
		pass(20 * time.Second)
		before := written.Load()
		if before == 0 || before > 8<<20 {
			t.Fatalf("%d bytes were taken for a reader that reads nothing", before)
		}
		a, b := joined(t, from, to)
		if err := exchange(a, b, 4<<20); err != nil {
			t.Fatalf("another stream: %v", err)
		}
		if now := written.Load(); now != before {
			t.Errorf("the blocked writer went on: %d bytes, %d before", now, before)
		}
		if _, err := io.CopyN(io.Discard, stopped, before+1<<20); err != nil {
			t.Errorf("the reader goes on: %v", err)
		}
		stopped.Reset(tunnel.ResetCancelled)
		wantReset(t, "the writer", <-result, tunnel.ResetCancelled, true)
	}
}

// testManyStopped is a clinic where a hundred uploads wait for their turn, or a hundred browsers have stopped reading: the next
// request must not wait for them.
func testManyStopped(t *testing.T, m Make) {
	p := m.Admitted(t)
	for _, end := range []End{Dialer, Listener} {
		from, to := p.Ends(end)
		stopped := make(chan struct{}, 100)
		var writers []tunnel.Stream
		for range cap(stopped) {
			writer, _ := joined(t, from, to)
			writers = append(writers, writer)
			go func() {
				_ = writeUntil(writer)
				stopped <- struct{}{}
			}()
		}
		pass(20 * time.Second)
		a, b := joined(t, from, to)
		if err := exchange(a, b, 1<<20); err != nil {
			t.Fatalf("another stream: %v", err)
		}
		for _, w := range writers {
			w.Reset(tunnel.ResetCancelled)
			<-stopped
		}
	}
}

func testDeadlines(t *testing.T, m Make) {
	p := m.Admitted(t)
	a, b := joined(t, p.Dialed, p.Accepted)
	start := time.Now()
	_ = b.SetReadDeadline(start.Add(3 * time.Second))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if waited := time.Since(start); waited != 3*time.Second {
		t.Errorf("read waited %v", waited)
	}
	_ = a.SetWriteDeadline(time.Now().Add(3 * time.Second))
	if err := writeUntil(a); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	_ = b.SetReadDeadline(time.Time{})
	_ = a.SetWriteDeadline(time.Time{})
	rest := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, b)
		rest <- err
	}()
	if _, err := a.Write([]byte{1}); err != nil {
		t.Errorf("write after a deadline: %v", err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Errorf("close after a deadline: %v", err)
	}
	if err := <-rest; err != nil {
		t.Errorf("read after a deadline: %v", err)
	}
}
