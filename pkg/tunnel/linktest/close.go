package linktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func testCloseReason(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		for _, reason := range []tunnel.Reason{
			{Code: tunnel.ReasonGoodbye},
			{Code: tunnel.ReasonDrain, Message: "this edge is being updated", RetryAfter: 90 * time.Second},
			{Code: tunnel.ReasonRevoked, Message: "révoqué par l'administrateur"},
			{Code: tunnel.ReasonSuperseded},
			{Code: tunnel.ReasonRefused},
		} {
			p := m.Admitted(t)
			this, other := p.Ends(end)
			a, b := joined(t, this, other)
			for _, s := range []tunnel.Stream{a, b} { // bytes under way must not get in the way of the reason
				go func() { _ = writeUntil(s) }()
			}
			go func() { _, _ = io.Copy(io.Discard, a) }()
			pass(50 * time.Millisecond)
			start := time.Now()
			if err := this.Close(reason); err != nil {
				t.Errorf("close: %v", err)
			}
			if took := time.Since(start); took > time.Second+time.Second/4 {
				t.Errorf("close took %v", took)
			}
			got, took := ended(t, other)
			if diff := cmp.Diff(reason, got.Reason); diff != "" || !got.Remote {
				t.Errorf("the peer of end %d heard (remote %v) after %v: %v\n%s", end, got.Remote, took, got, diff)
			}
			own, _ := ended(t, this)
			if diff := cmp.Diff(reason, own.Reason); diff != "" || own.Remote {
				t.Errorf("our own cause: %s", diff)
			}
			_ = other.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		}
	}
}

func testCloseBlackholed(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		p := m.Admitted(t)
		this, other := p.Ends(end)
		a, _ := joined(t, this, other)
		p.Wire.Blackhole(Dialer)
		p.Wire.Blackhole(Listener)
		blocked := make(chan error, 1)
		go func() { blocked <- writeUntil(a) }()
		pass(100 * time.Millisecond)
		start := time.Now()
		_ = this.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		if took := time.Since(start); took > time.Second {
			t.Errorf("close took %v", took)
		}
		var closed *tunnel.ClosedError
		if err := <-blocked; !errors.As(err, &closed) {
			t.Errorf("a blocked Write: %v", err)
		}
		ended(t, other)
	}
}

func testHeldStreams(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		p := m(t)
		held, stranger := p.Ends(end)
		stranger.Admit()
		first, second := open(t, stranger), open(t, stranger)
		_, _ = first.Write([]byte{1})
		accept(t, held)
		_, _ = second.Write([]byte{1})
		for _, l := range []tunnel.Link{held, stranger} {
			if cause, took := ended(t, l); cause.Reason.Code != tunnel.ReasonProtocol || took > time.Second {
				t.Errorf("after %v: %v", took, cause)
			}
		}
	}
}

func testHeldBytes(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		p := m(t)
		held, stranger := p.Ends(end)
		stranger.Admit()
		s, there := joined(t, stranger, held)
		if _, err := s.Write(make([]byte, 8<<10)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, there, 8<<10); err != nil {
			t.Fatalf("half of what a held link takes: %v", err)
		}
		go func() { _ = writeUntil(s) }()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		for _, l := range []tunnel.Link{held, stranger} {
			if cause, took := ended(t, l); cause.Reason.Code != tunnel.ReasonProtocol || took > time.Second {
				t.Errorf("after %v: %v", took, cause)
			}
		}
	}
}

// testHeldUnread is a stranger who sends all that the windows let through, and nobody reads it.
func testHeldUnread(t *testing.T, m Make) {
	for _, end := range []End{Dialer, Listener} {
		p := m(t)
		held, stranger := p.Ends(end)
		stranger.Admit()
		s, _ := joined(t, stranger, held)
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			_ = writeUntil(s)
		}()
		for _, l := range []tunnel.Link{held, stranger} {
			if cause, took := ended(t, l); cause.Reason.Code != tunnel.ReasonProtocol || took > time.Second {
				t.Errorf("after %v: %v", took, cause)
			}
		}
		<-stuck
	}
}

func testExport(t *testing.T, m Make) {
	p, q := m(t), m(t)
	export := func(l tunnel.Link, binding string) []byte {
		key, err := l.Export("EXPORTER-sallyport-test", []byte(binding), 32)
		if err != nil || len(key) != 32 {
			t.Fatalf("export: %d bytes, %v", len(key), err)
		}
		return key
	}
	if !bytes.Equal(export(p.Dialed, "a"), export(p.Accepted, "a")) {
		t.Error("the two ends of a link export different keys")
	}
	if bytes.Equal(export(p.Dialed, "a"), export(q.Dialed, "a")) {
		t.Error("two links export the same key")
	}
	if bytes.Equal(export(p.Dialed, "a"), export(p.Dialed, "b")) {
		t.Error("the binding does not count")
	}
}

func testEnded(t *testing.T, m Make) {
	p := m.Admitted(t)
	if p.Dialed.Cause() != nil {
		t.Errorf("cause of a living link: %v", p.Dialed.Cause())
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := p.Accepted.Accept(context.Background())
		waiting <- err
	}()
	_ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	_ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonRevoked}) // the first one counts
	ended(t, p.Accepted)
	var closed *tunnel.ClosedError
	if err := <-waiting; !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonGoodbye {
		t.Errorf("a waiting Accept: %v", err)
	}
	for _, l := range []tunnel.Link{p.Dialed, p.Accepted} {
		if _, err := l.Open(t.Context()); !errors.As(err, &closed) {
			t.Errorf("open: %v", err)
		}
		if _, err := l.Accept(t.Context()); !errors.As(err, &closed) {
			t.Errorf("accept: %v", err)
		}
	}
}
