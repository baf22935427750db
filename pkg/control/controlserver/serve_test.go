package controlserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// up opens a link with the real client and serves it; ended gives what Serve returned.
func (w *world) up(t *testing.T, h controlclient.Handlers) (dialed *memLink, link *controlclient.Link, ended <-chan error, served <-chan error) {
	t.Helper()
	dialed, accepted := memPair()
	served = w.serve(t.Context(), accepted)
	link, err := controlclient.Open(t.Context(), dialed, w.client())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- link.Serve(t.Context(), h) }()
	synctest.Wait()
	return dialed, link, done, served
}

func TestRevokedConnectorIsCutAtOnceAndToldWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, _, ended, served := w.up(t, controlclient.Handlers{})
		revoke(w)
		begun := time.Now()
		if err := w.server.Follow(t.Context(), []change.Change{{Tenant: "maple", Kind: change.Connector, ID: string(connectorID)}}); err != nil {
			t.Fatal(err)
		}
		var closed *tunnel.ClosedError
		if err := <-ended; !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonRevoked || time.Since(begun) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		<-served
	})
}

func TestRevocationsAndKeysReachConnectorsOfTheTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := make(chan *tunnelv1.Revoke, 4)
		dialed, _, ended, served := w.up(t, controlclient.Handlers{Revoke: func(r *tunnelv1.Revoke) { got <- r }})
		w.server.RevokeSession("cedar", "ses_other")
		w.server.RevokeSession("", "ses_everybody")
		w.server.RevokeSession("maple", "")
		err := w.server.Follow(t.Context(), []change.Change{
			{Tenant: "maple", Kind: change.Session, ID: "ses_1"}, {Kind: change.Key},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.server.RevokePrincipal("maple", "usr_1")
		synctest.Wait()
		if len(got) != 2 {
			t.Fatalf("%d revocations", len(got))
		}
		if a, b := <-got, <-got; a.GetSession() != "ses_1" || b.GetPrincipal() != "usr_1" {
			t.Errorf("%v, %v", a, b)
		}
		if dialed.reason() != "" {
			t.Errorf("the key set ended the link: %v", dialed.Cause())
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-ended
		<-served
	})
}

func TestDrainAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		drained := make(chan time.Duration, 1)
		_, _, ended, served := w.up(t, controlclient.Handlers{Drain: func(d time.Duration) { drained <- d }})
		w.server.Drain(7 * time.Second)
		if d := <-drained; d != 7*time.Second {
			t.Errorf("drain within %v", d)
		}
		_, late := memPair()
		if err := w.server.ServeLink(t.Context(), late); err == nil || late.reason() != tunnel.ReasonDrain {
			t.Errorf("a new link while draining: %v, closed as %q", err, late.reason())
		}
		w.server.Close()
		var closed *tunnel.ClosedError
		if err := <-ended; !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonShutdown {
			t.Errorf("%v", err)
		}
		<-served
	})
}

func TestConnectorThatLeavesGetsNoMoreExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, link, ended, served := w.up(t, controlclient.Handlers{})
		if err := link.Leave(30 * time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := w.registry.Pick(t.Context(), "maple", "main", ""); err == nil {
			t.Error("picked a link that leaves")
		}
		if dialed.reason() != "" {
			t.Error("a leaving link was closed")
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-ended
		<-served
	})
}

// Streams that a connector opens are refused one by one; only a flood ends the link (attack cases K1, K4).
func TestUnsolicitedStreamsAreReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, _, ended, served := w.up(t, controlclient.Handlers{})
		for _, kind := range []byte{0, wire.StreamControl, wire.StreamExchange, wire.StreamContinuation, 0x7f} {
			s, err := dialed.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write([]byte{kind})
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Errorf("kind %d is answered", kind)
			}
		}
		if dialed.reason() != "" {
			t.Fatalf("the link ended: %v", dialed.Cause())
		}
		for dialed.Cause() == nil {
			if _, err := dialed.Open(t.Context()); err != nil {
				break
			}
			synctest.Wait()
		}
		if dialed.reason() != tunnel.ReasonProtocol {
			t.Errorf("a flood of streams ended the link as %q", dialed.reason())
		}
		<-ended
		<-served
	})
}

// admitted plays the handshake by hand, so that the test can misbehave afterwards.
func (w *world) admitted(t *testing.T) (*peer, <-chan error) {
	t.Helper()
	dialed, accepted := memPair()
	accepted.rouses = w.rouses
	served := w.serve(t.Context(), accepted)
	if _, err := controlclient.Open(t.Context(), dialed, w.client()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return &peer{t: t, link: dialed, stream: dialed.first()}, served
}

func TestPeersThatMisbehaveLater(t *testing.T) {
	for _, row := range []struct {
		name   string
		play   func(p *peer)
		reason string
		within time.Duration
	}{
		{"goes silent", func(*peer) {}, tunnel.ReasonTimeout, 31 * time.Second},
		{"floods", func(p *peer) {
			for i := range uint64(1000) {
				if p.send(heartbeatMessage(i)) != nil {
					return
				}
			}
		}, tunnel.ReasonProtocol, time.Second},
		{"says hello again", func(p *peer) { _ = p.send(helloMessage(hello())) }, tunnel.ReasonProtocol, time.Second},
		{"lists a million origins", func(p *peer) {
			h := &tunnelv1.Heartbeat{Origins: make([]*tunnelv1.OriginHealth, 1000)}
			for i := range h.Origins {
				h.Origins[i] = &tunnelv1.OriginHealth{}
			}
			_ = p.send(&tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: h}})
		}, tunnel.ReasonProtocol, time.Second},
		{"sends a length and nothing", func(p *peer) { _, _ = p.stream.Write([]byte{0xff, 0xff, 0xff, 0x7f}) }, tunnel.ReasonProtocol, time.Second},
		{"says goodbye", func(p *peer) {
			_ = p.send(&tunnelv1.Control{Message: &tunnelv1.Control_Goodbye{Goodbye: &tunnelv1.Goodbye{Code: "goodbye"}}})
		}, tunnel.ReasonGoodbye, time.Second},
	} {
		for _, rouses := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rouses %t", row.name, rouses), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.rouses = rouses
					p, served := w.admitted(t)
					begun := time.Now()
					go func() {
						buf := make([]byte, 4096)
						for {
							if _, err := p.stream.Read(buf); err != nil {
								return
							}
						}
					}()
					go row.play(p)
					<-served
					if p.link.reason() != row.reason || time.Since(begun) > row.within {
						t.Errorf("closed as %q after %v", p.link.reason(), time.Since(begun))
					}
				})
			})
		}
	}
}

// A connector that stops reading its control stream would miss a revocation: its link ends.
func TestPeerThatDoesNotReadIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, served := w.admitted(t)
		for range 200 {
			w.server.RevokeSession("maple", "ses_1")
		}
		begun := time.Now()
		<-served
		if p.link.reason() == "" || time.Since(begun) > time.Second {
			t.Errorf("cut as %q after %v", p.link.reason(), time.Since(begun))
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, accepted := memPair()
		ctx, cancel := context.WithCancel(t.Context())
		served := w.serve(ctx, accepted)
		if _, err := controlclient.Open(t.Context(), dialed, w.client()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		<-served
		if dialed.reason() != tunnel.ReasonShutdown {
			t.Errorf("closed as %q", dialed.reason())
		}
	})
}

// A flapping line leaves nothing behind: synctest fails the test for a goroutine that is left (attack case H14).
func TestFlappingLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range 1000 {
			dialed, _, ended, served := w.up(t, controlclient.Handlers{})
			_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonLost})
			<-ended
			<-served
		}
		if n := len(w.registry.Members("")); n != 0 || w.store.generation != 1 {
			t.Errorf("%d members; generation %d for one process", n, w.store.generation)
		}
	})
}
