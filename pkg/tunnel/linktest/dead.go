package linktest

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// foundWithin is the promise: a dead peer is found within 10 s.
const foundWithin = 10 * time.Second

func dead(code string) bool { return code == tunnel.ReasonTimeout || code == tunnel.ReasonLost }

func testKilled(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		p := m.Admitted(t)
		if p.Wire == nil {
			t.Fatal("this pair cannot be killed")
		}
		_, there := joined(t, p.Dialed, p.Accepted)
		if end == Listener {
			there, _ = joined(t, p.Dialed, p.Accepted)
		}
		_, other := p.Ends(end)
		read := make(chan error, 1)
		go func() {
			_, err := there.Read(make([]byte, 1))
			read <- err
		}()
		p.Wire.Kill(end)
		cause, took := ended(t, other)
		if took > foundWithin || !dead(cause.Reason.Code) {
			t.Errorf("end %d was killed: found after %v as %v", end, took, cause)
		}
		var closed *tunnel.ClosedError
		if err := <-read; !errors.As(err, &closed) {
			t.Errorf("a blocked Read: %v", err)
		}
	}
}

func testBlackhole(t *testing.T, m Make) {
	for _, c := range []struct {
		name  string
		holes []End
		busy  bool
	}{
		{"dialer's packets", []End{Dialer}, false},
		{"listener's packets", []End{Listener}, false},
		{"all packets", []End{Dialer, Listener}, false},
		{"dialer's packets, busy", []End{Dialer}, true},
		{"listener's packets, busy", []End{Listener}, true},
		{"all packets, busy", []End{Dialer, Listener}, true},
	} {
		p := m.Admitted(t)
		a, b := joined(t, p.Dialed, p.Accepted)
		writers := make(chan error, 2)
		if c.busy {
			for _, s := range []tunnel.Stream{a, b} {
				go func() { writers <- writeUntil(s) }()
				go func() { _, _ = io.Copy(io.Discard, s) }()
			}
			pass(10 * time.Millisecond)
		} else {
			pass(7 * time.Second) // in the middle between two probes
		}
		for _, end := range c.holes {
			p.Wire.Blackhole(end)
		}
		start := time.Now()
		for _, l := range []tunnel.Link{p.Dialed, p.Accepted} {
			cause, _ := ended(t, l)
			if took := time.Since(start); took > foundWithin {
				t.Errorf("%s: found after %v as %v", c.name, took, cause)
			}
			if !dead(cause.Reason.Code) {
				t.Errorf("%s: found as %v", c.name, cause)
			}
		}
		if c.busy {
			for range 2 {
				var closed *tunnel.ClosedError
				if err := <-writers; !errors.As(err, &closed) {
					t.Errorf("%s: a blocked Write: %v", c.name, err)
				}
			}
		}
		_ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		_ = p.Accepted.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	}
}

func testQuiet(t *testing.T, m Make) {
	p := m.Admitted(t)
	a, b := joined(t, p.Dialed, p.Accepted)
	pass(time.Hour)
	if err := exchange(a, b, 1000); err != nil {
		t.Errorf("after an hour of silence: %v", err)
	}
	if p.Dialed.Info().RTT <= 0 && p.Accepted.Info().RTT < 0 {
		t.Error("no round trip was measured")
	}
}

func testDeadIsNoEOF(t *testing.T, m Make) {
	for _, closes := range []bool{true, false} {
		p := m.Admitted(t)
		a, b := joined(t, p.Dialed, p.Accepted)
		if _, err := a.Write(make([]byte, 5000)); err != nil {
			t.Fatal(err)
		}
		if closes {
			_ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		} else {
			p.Wire.Kill(Dialer)
		}
		_, err := io.Copy(io.Discard, b)
		var closed *tunnel.ClosedError
		if !errors.As(err, &closed) {
			t.Errorf("half a body was read as a whole one: %v", err)
		}
		if _, err := b.Write([]byte{1}); !errors.As(err, &closed) {
			t.Errorf("write on a dead link: %v", err)
		}
	}
}
