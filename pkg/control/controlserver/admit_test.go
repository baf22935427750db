package controlserver_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func TestLinkOpensLivesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, accepted := memPair()
		served := w.serve(t.Context(), accepted)
		cfg := w.client()
		link, err := controlclient.Open(t.Context(), dialed, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if link.Tenant != "maple" || link.Site != "main" || link.Generation != 1 {
			t.Errorf("registered as %s/%s generation %d", link.Tenant, link.Site, link.Generation)
		}
		if off := cfg.Clock.Now().Sub(start); off < 0 || off > time.Second {
			t.Errorf("the edge's clock is off by %v", off)
		}
		synctest.Wait()
		m, err := w.registry.Pick(t.Context(), "maple", "main", "")
		if err != nil || m.Link != tunnel.Link(accepted) || !accepted.admitted || !dialed.admitted {
			t.Fatalf("not in the registry, or still held: %v", err)
		}
		if !m.Once || !m.Moved || !m.Probed {
			t.Errorf("what the connector can do is not known: %+v", m)
		}
		ended := make(chan error, 1)
		go func() { ended <- link.Serve(t.Context(), controlclient.Handlers{}) }()
		go new(acceptor).serve(t, link, link.Beat)
		<-time.After(time.Minute)
		if at, _ := link.RoundTrip(); time.Since(at) > 7*time.Second {
			t.Errorf("last round trip %v ago", time.Since(at))
		}
		if accepted.reason() != "" {
			t.Fatalf("a quiet link ended: %v", accepted.Cause())
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-ended
		if err := <-served; err != nil {
			t.Errorf("ServeLink: %v", err)
		}
		if n := len(w.registry.Members("")); n != 0 {
			t.Errorf("%d members after the end", n)
		}
	})
}

// Peers that are no enrolled connector, each stopped within the handshake's 5 s, and none told more than another.
func TestStrangersAreRefused(t *testing.T) {
	register := func(key ed25519.PrivateKey, change func(nonce, exporter []byte) ([]byte, []byte)) func(p *peer) {
		return func(p *peer) {
			p.kind(wire.StreamControl)
			_ = p.send(helloMessage(hello()))
			m, err := p.read()
			if err != nil {
				p.t.Errorf("no hello: %v", err)
				return
			}
			exporter, _ := p.link.Export(controlserver.ExporterLabel, nil, 32)
			nonce, exporter := change(m.GetHello().GetNonce(), exporter)
			proof, err := token.SignLinkProof(key, connectorID, nonce, exporter)
			if err != nil {
				p.t.Error(err)
			}
			_ = p.send(registerMessage(proof))
		}
	}
	same := func(n, e []byte) ([]byte, []byte) { return n, e }
	good := ed25519.NewKeyFromSeed(make([]byte, 32))
	_, foreign, _ := ed25519.GenerateKey(nil)
	greet := func(change func(*tunnelv1.Hello)) func(p *peer) {
		return func(p *peer) {
			h := hello()
			change(h)
			p.kind(wire.StreamControl)
			_ = p.send(helloMessage(h))
		}
	}
	for _, row := range []struct {
		name   string
		play   func(p *peer)
		reason string
		world  func(w *world)
	}{
		{"silent", func(*peer) {}, tunnel.ReasonProtocol, nil},
		{"a byte a second", func(p *peer) {
			p.kind(wire.StreamControl)
			for {
				if _, err := p.stream.Write([]byte{0x80}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, tunnel.ReasonProtocol, nil},
		{"another kind of stream", func(p *peer) { p.kind(wire.StreamExchange) }, tunnel.ReasonProtocol, nil},
		{"unknown kind of stream", func(p *peer) { p.kind(0x7f) }, tunnel.ReasonProtocol, nil},
		{"oversized", greet(func(h *tunnelv1.Hello) { h.Software = strings.Repeat("x", wire.MaxControlHeld) }), tunnel.ReasonProtocol, nil},
		{"many messages that mean nothing", func(p *peer) {
			p.kind(wire.StreamControl)
			for p.send(&tunnelv1.Control{}) == nil {
			}
		}, tunnel.ReasonProtocol, nil},
		{"register before hello", func(p *peer) { p.kind(wire.StreamControl); _ = p.send(registerMessage("x")) }, tunnel.ReasonProtocol, nil},
		{"short nonce", greet(func(h *tunnelv1.Hello) { h.Nonce = h.Nonce[:8] }), tunnel.ReasonProtocol, nil},
		{"odd connector id", greet(func(h *tunnelv1.Hello) { h.Connector = "con_1/../2" }), tunnel.ReasonProtocol, nil},
		{"odd instance", greet(func(h *tunnelv1.Hello) { h.Instance = "\n" }), tunnel.ReasonProtocol, nil},
		{"no shared version", greet(func(h *tunnelv1.Hello) { h.Versions = []uint32{99} }), tunnel.ReasonRefused, nil},
		{"no key", register(foreign, same), tunnel.ReasonRefused, nil},
		{"unknown connector", register(good, same), tunnel.ReasonRefused, func(w *world) { clear(w.store.connectors) }},
		{"proof for another nonce", register(good, func(_, e []byte) ([]byte, []byte) { return bytes.Repeat([]byte{9}, 32), e }), tunnel.ReasonRefused, nil},
		{"proof for another connection", register(good, func(n, _ []byte) ([]byte, []byte) { return n, bytes.Repeat([]byte{9}, 32) }), tunnel.ReasonRefused, nil},
		{"wrong key of a revoked connector", register(foreign, same), tunnel.ReasonRefused, revoke},
		{"revoked", register(good, same), tunnel.ReasonRevoked, revoke},
		{"frozen", register(good, same), tunnel.ReasonRefused, func(w *world) {
			w.store.change(connectorID, func(c *enroll.Connector) { c.Frozen = "copied key" })
		}},
		{"says nothing after registered", register(good, same), tunnel.ReasonProtocol, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if row.world != nil {
					row.world(w)
				}
				dialed, accepted := memPair()
				served := w.serve(t.Context(), accepted)
				begun := time.Now()
				p := newPeer(t, dialed)
				played := make(chan struct{})
				go func() {
					defer close(played)
					row.play(p)
					for {
						if _, err := p.read(); err != nil {
							return
						}
					}
				}()
				if err := <-served; err == nil {
					t.Error("admitted")
				}
				if took := time.Since(begun); took > 6*time.Second {
					t.Errorf("it took %v", took)
				}
				if dialed.reason() != row.reason {
					t.Errorf("closed as %q, want %q", dialed.reason(), row.reason)
				}
				if n := len(w.registry.Members("")); n != 0 {
					t.Error("in the registry")
				}
				<-played
			})
		})
	}
}

func revoke(w *world) {
	w.store.change(connectorID, func(c *enroll.Connector) { c.Revoked = start })
}

// A proof that was seen on one link opens no other: the nonce is fresh each time.
func TestReplayedProofIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var recorded string
		for round := range 2 {
			dialed, accepted := memPair()
			served := w.serve(t.Context(), accepted)
			p := newPeer(t, dialed)
			p.kind(wire.StreamControl)
			_ = p.send(helloMessage(hello()))
			m, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				exporter, _ := dialed.Export(controlserver.ExporterLabel, nil, 32)
				recorded, _ = token.SignLinkProof(w.key, connectorID, m.GetHello().GetNonce(), exporter)
			}
			_ = p.send(registerMessage(recorded))
			m, err = p.read()
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 && m.GetRegistered() == nil {
				t.Fatalf("the honest proof is refused: %v", m)
			}
			if round == 1 && m.GetGoodbye().GetCode() != tunnel.ReasonRefused {
				t.Errorf("the replayed one got %v", m)
			}
			_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
			<-served
		}
	})
}

// Another process of the connector gets its number while this one's proof is on its way: by the time that the edge has it, this one may
// be dead and the other its successor. It gets no number and comes again, if it lives; then it does.
func TestProcessThatMayBeDeadGetsNoNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for round := range 2 {
			dialed, accepted := memPair()
			served := w.serve(t.Context(), accepted)
			p := newPeer(t, dialed)
			p.kind(wire.StreamControl)
			_ = p.send(helloMessage(hello()))
			m, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				if _, err := w.store.JoinRun(t.Context(), connectorID, "successor", 0); err != nil {
					t.Fatal(err)
				}
			}
			exporter, _ := dialed.Export(controlserver.ExporterLabel, nil, 32)
			proof, _ := token.SignLinkProof(w.key, connectorID, m.GetHello().GetNonce(), exporter)
			_ = p.send(registerMessage(proof))
			if m, err = p.read(); err != nil {
				t.Fatal(err)
			}
			if g := m.GetGoodbye(); round == 0 && (g.GetCode() != tunnel.ReasonGoodbye || g.GetRetryAfterMs() != 1000) {
				t.Errorf("one that may be dead got %v", m)
			}
			if round == 1 && m.GetRegistered().GetGeneration() != 2 {
				t.Errorf("one that lives got %v", m)
			}
			_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
			<-served
		}
	})
}

// TLS opened on the way: both sides see other keying material, and each refuses on its own.
func TestInterceptedLinkIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, accepted := memPair()
		accepted.secret = "another TLS connection"
		served := w.serve(t.Context(), accepted)
		if _, err := controlclient.Open(t.Context(), dialed, w.client()); err == nil {
			t.Error("the connector opened the link")
		}
		if err := <-served; err == nil {
			t.Error("the edge admitted the link")
		}
	})
}

// The revocation falls between the look at the connector's record and the link's entry in the registry.
func TestRevocationDuringTheHandshakeIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.onNext = func() {
			revoke(w)
			if err := w.server.CheckConnector(t.Context(), connectorID); err != nil {
				t.Error(err)
			}
		}
		dialed, accepted := memPair()
		served := w.serve(t.Context(), accepted)
		link, err := controlclient.Open(t.Context(), dialed, w.client())
		if err == nil {
			err = link.Serve(t.Context(), controlclient.Handlers{})
		}
		var refused *controlclient.RefusedError
		if !errors.As(err, &refused) || refused.Code != tunnel.ReasonRevoked {
			t.Errorf("the connector got %v", err)
		}
		if err := <-served; err == nil {
			t.Error("admitted")
		}
		if len(w.registry.Members("")) != 0 {
			t.Error("a revoked connector is in the registry")
		}
	})
}

func TestHandshakesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.server = controlserver.New(controlserver.Config{Keyring: w.ring, Enroll: w.store, Registry: w.registry, Pending: 3})
		var waiting []<-chan error
		for range 3 {
			_, accepted := memPair()
			waiting = append(waiting, w.serve(t.Context(), accepted))
		}
		synctest.Wait()
		_, accepted := memPair()
		if err := w.server.ServeLink(t.Context(), accepted); err == nil || accepted.reason() != tunnel.ReasonRefused {
			t.Errorf("one too many: %v, closed as %q", err, accepted.reason())
		}
		for _, c := range waiting {
			<-c
		}
	})
}

// Whatever bytes a peer sends as its control stream, it is refused and the server goes on.
func FuzzControlStream(f *testing.F) {
	var good bytes.Buffer
	_ = wire.WriteKind(&good, wire.StreamControl)
	_ = wire.WriteControl(&good, helloMessage(hello()))
	_ = wire.WriteControl(&good, registerMessage("a.b.c"))
	_ = wire.WriteControl(&good, heartbeatMessage(1))
	f.Add(good.Bytes())
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{2})
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		dialed, accepted := memPair()
		served := w.serve(t.Context(), accepted)
		s, err := dialed.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = s.Read(make([]byte, 4096)) }()
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = s.Write(text)
		_ = s.CloseWrite()
		if err := <-served; err == nil {
			t.Error("admitted")
		}
	})
}
