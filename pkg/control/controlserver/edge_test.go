package controlserver_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// fakeEdge plays the edge's side by hand; other fields than those set are as an honest edge of w would send them.
type fakeEdge struct {
	w          *world
	hello      func(*tunnelv1.Hello)
	registered func(r *tunnelv1.Registered, nonce, exporter []byte)
	instead    *tunnelv1.Control
}

func (f *fakeEdge) play(t *testing.T, link *memLink) {
	s, err := link.Accept(t.Context())
	if err != nil {
		return
	}
	p := &peer{t: t, link: link, stream: s}
	p.reader = newReader(s)
	if _, err := wire.ReadKind(p.reader); err != nil {
		return
	}
	m, err := p.read()
	if err != nil {
		return
	}
	nonce := m.GetHello().GetNonce()
	answer := &tunnelv1.Hello{Versions: []uint32{wire.Version}, Nonce: make([]byte, 32), EdgeTimeMs: start.UnixMilli()}
	if f.hello != nil {
		f.hello(answer)
	}
	if p.send(helloMessage(answer)) != nil {
		return
	}
	if _, err := p.read(); err != nil {
		return
	}
	if f.instead != nil {
		_ = p.send(f.instead)
		return
	}
	exporter, _ := link.Export(controlserver.ExporterLabel, nil, 32)
	proof, _ := f.w.ring.MintEdgeProof(nonce, exporter)
	sets, _ := f.w.ring.KeySets(start)
	r := &tunnelv1.Registered{Generation: 1, EdgeProof: proof, KeySets: sets, Tenant: "maple", Site: "main", HeartbeatMs: 3000}
	if f.registered != nil {
		f.registered(r, nonce, exporter)
	}
	_ = p.send(&tunnelv1.Control{Message: &tunnelv1.Control_Registered{Registered: r}})
	for {
		if _, err := p.read(); err != nil {
			return
		}
	}
}

// An edge that is not the one that was pinned, or not at the other end of this TLS connection, gets no open link.
func TestConnectorBelievesItsEdgeAlone(t *testing.T) {
	type row struct {
		name string
		edge func(w, other *world) *fakeEdge
		want error // nil: any
	}
	for _, r := range []row{
		{"another root", func(_, other *world) *fakeEdge { return &fakeEdge{w: other} }, controlclient.ErrNotOurEdge},
		{"our key sets, another's proof", func(w, other *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, nonce, exporter []byte) {
				r.EdgeProof, _ = other.ring.MintEdgeProof(nonce, exporter)
			}}
		}, controlclient.ErrNotOurEdge},
		{"proof of another connection", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, nonce, _ []byte) {
				r.EdgeProof, _ = w.ring.MintEdgeProof(nonce, bytes.Repeat([]byte{7}, 32))
			}}
		}, controlclient.ErrNotOurEdge},
		{"recorded proof", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, _, exporter []byte) {
				r.EdgeProof, _ = w.ring.MintEdgeProof(bytes.Repeat([]byte{7}, 32), exporter)
			}}
		}, controlclient.ErrNotOurEdge},
		{"no proof", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, _, _ []byte) { r.EdgeProof = "" }}
		}, controlclient.ErrNotOurEdge},
		{"no key sets", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, _, _ []byte) { r.KeySets = nil }}
		}, controlclient.ErrNotOurEdge},
		{"generation 0", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, registered: func(r *tunnelv1.Registered, _, _ []byte) { r.Generation = 0 }}
		}, nil},
		{"short nonce", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, hello: func(h *tunnelv1.Hello) { h.Nonce = h.Nonce[:4] }}
		}, nil},
		{"clock of 1970", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, hello: func(h *tunnelv1.Hello) { h.EdgeTimeMs = 1 }}
		}, nil},
		{"another version", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, hello: func(h *tunnelv1.Hello) { h.Versions = []uint32{2} }}
		}, nil},
		{"oversized", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, hello: func(h *tunnelv1.Hello) { h.Software = strings.Repeat("x", wire.MaxControlHeld) }}
		}, nil},
		{"heartbeat answer in place of registered", func(w, _ *world) *fakeEdge {
			return &fakeEdge{w: w, instead: &tunnelv1.Control{Message: &tunnelv1.Control_HeartbeatAck{}}}
		}, nil},
		{"silence", func(w, _ *world) *fakeEdge { return &fakeEdge{w: w, instead: &tunnelv1.Control{}} }, nil},
	} {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, other := newWorld(t), newWorld(t)
				dialed, accepted := memPair()
				played := make(chan struct{})
				edge := r.edge(w, other)
				go func() {
					defer close(played)
					edge.play(t, accepted)
				}()
				begun := time.Now()
				cfg := w.client()
				_, err := controlclient.Open(t.Context(), dialed, cfg)
				if off := cfg.Clock.Offset(); off.Abs() > time.Second {
					t.Errorf("an edge that is not believed set the clock by %v", off)
				}
				if err == nil || time.Since(begun) > 6*time.Second {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				if r.want != nil && !errors.Is(err, r.want) {
					t.Errorf("got %v", err)
				}
				if dialed.admitted || dialed.reason() == "" {
					t.Error("the link was admitted, or left open")
				}
				<-played
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, accepted := memPair()
		go (&fakeEdge{w: w}).play(t, accepted)
		if _, err := controlclient.Open(t.Context(), dialed, w.client()); err != nil {
			t.Errorf("the honest one is refused: %v", err)
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
}

func TestGoodbyeTellsWhyAndWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		revoke(w)
		dialed, accepted := memPair()
		served := w.serve(t.Context(), accepted)
		_, err := controlclient.Open(t.Context(), dialed, w.client())
		var refused *controlclient.RefusedError
		if !errors.As(err, &refused) || refused.Code != tunnel.ReasonRevoked || refused.RetryAfter != time.Hour {
			t.Errorf("%+v", err)
		}
		<-served
	})
}
