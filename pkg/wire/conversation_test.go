package wire_test

import (
	"io"

	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// recordLink is a link from hello to goodbye.
func recordLink(control func(name, sender string, messages ...*tunnelv1.Control)) {
	control("link", "connector",
		hello(),
		&tunnelv1.Control{Message: &tunnelv1.Control_Register{Register: &tunnelv1.Register{Proof: "e30.e30.c2ln", ConfigurationVersion: 4}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: &tunnelv1.Heartbeat{
			Sequence: 1, Origins: []*tunnelv1.OriginHealth{{Name: "oscar", Healthy: true, State: "ok", CheckedMs: 1_767_225_600_000}},
		}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_ConfigurationAck{ConfigurationAck: &tunnelv1.ConfigurationAck{Version: 5, Reason: "line 3: no origin"}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Goodbye{Goodbye: &tunnelv1.Goodbye{Code: "shutdown"}}},
	)
	control("link", "edge",
		&tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: &tunnelv1.Hello{
			Versions: []uint32{1}, Features: []string{wire.FeatureMoved}, EdgeTimeMs: 1_767_225_600_000, Nonce: make([]byte, 32),
		}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Registered{Registered: &tunnelv1.Registered{
			Generation: 3, EdgeProof: "e30.e30.c2ln", KeySets: []string{"e30.e30.a2V5"}, Tenant: "maple", Site: "main", HeartbeatMs: 2000,
		}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_HeartbeatAck{HeartbeatAck: &tunnelv1.HeartbeatAck{Sequence: 1, EdgeTimeMs: 1_767_225_602_000}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Configuration{Configuration: &tunnelv1.Configuration{Version: 5, IngressYaml: []byte("rules: []\n")}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Revoke{Revoke: &tunnelv1.Revoke{Session: "s1", Principal: "p1", All: true}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Edges{Edges: &tunnelv1.Edges{Edges: []*tunnelv1.EdgeAddress{{Url: "https://edge.example:8443", Weight: 1}}}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_KeySet{KeySet: &tunnelv1.KeySet{Jwt: "e30.e30.a2V5"}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Drain{Drain: &tunnelv1.Drain{WithinMs: 30_000}}},
		&tunnelv1.Control{Message: &tunnelv1.Control_Goodbye{Goodbye: &tunnelv1.Goodbye{Code: "drain", Message: "upgrade", RetryAfterMs: 1000}}},
	)
}

// recordPeers is a link between two edges, of which "edge" dialled.
func recordPeers(peer func(name, sender string, messages ...*tunnelv1.PeerControl)) {
	hello := func(edge string) *tunnelv1.PeerControl {
		return &tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Hello{Hello: &tunnelv1.PeerHello{
			Versions: []uint32{1}, Edge: edge, Instance: "00112233445566778899aabbccddeeff", Software: "0.3",
		}}}
	}
	peer("peer", "edge", hello("east"),
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{Incarnation: 2, Version: 7, Full: true}}},
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Changes{Changes: &tunnelv1.PeerChanges{Changes: []*tunnelv1.PeerChange{
			{Tenant: "maple", Kind: "session", Id: "ses_1", Version: 42}, {Tenant: "maple", Kind: "user", Id: "usr_1"},
		}}}},
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Goodbye{Goodbye: &tunnelv1.Goodbye{Code: "shutdown"}}})
	peer("peer", "other", hello("west"),
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{
			Incarnation: 1, Version: 3, Full: true, More: true, Holdings: []*tunnelv1.PeerHolding{
				{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 3, Links: 2},
			},
		}}},
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{
			Incarnation: 1, Version: 3, Full: true, Draining: true, Holdings: []*tunnelv1.PeerHolding{
				{Tenant: "oak", Site: "main", Connector: "con_2", Generation: 1, Links: 1},
			},
		}}},
		&tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{
			Incarnation: 1, Version: 4, Holdings: []*tunnelv1.PeerHolding{{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 3}},
		}}})
}

type step = func(*wire.Writer) error

// recordExchanges are the shapes that an exchange can take.
func recordExchanges(frames func(name, sender string, write ...step)) {
	text := func(s string) step {
		return func(w *wire.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	end := func(e wire.End) step { return func(w *wire.Writer) error { return w.End(&e) } }
	head := func(h wire.RequestHead) step { return func(w *wire.Writer) error { return w.RequestHead(&h) } }
	answer := func(h wire.ResponseHead) step { return func(w *wire.Writer) error { return w.ResponseHead(&h) } }
	whole, trailer := end(wire.End{}), end(wire.End{Trailer: wire.Header{{Name: "Digest", Value: "abc"}}})

	frames("body", "edge", head(request()), text("hello, "), text("origin"), trailer)
	frames("body", "connector",
		func(w *wire.Writer) error { return w.Interim(&wire.Interim{Status: 100}) },
		func(w *wire.Writer) error {
			return w.Interim(&wire.Interim{Status: 103, Header: wire.Header{{Name: "Link", Value: "</a.css>"}}})
		},
		func(w *wire.Writer) error { w.Probe(); return nil },
		answer(response()), text("hello, edge!"), trailer)

	get := request()
	get.Method, get.ContentLength, get.ExpectContinue, get.TrailerNames = "GET", 0, false, nil
	frames("abort", "edge", head(get), whole)
	frames("abort", "connector", answer(response()), text("hel"),
		end(wire.End{Code: wire.CodeOriginAbort, Message: "the origin broke off"}))
	frames("refused", "edge", head(get), whole)
	frames("refused", "connector",
		answer(wire.ResponseHead{Status: 502, ErrorCode: wire.CodeOriginRefused}), whole)

	up := get
	up.Upgrade = "websocket"
	frames("upgrade", "edge", head(up), text("ping"), whole)
	frames("upgrade", "connector", answer(wire.ResponseHead{Status: 101, Upgrade: "websocket"}), text("pong"), whole)

	frames("moved", "edge", head(get), whole)
	frames("moved", "connector", answer(response()), text("hello"),
		func(w *wire.Writer) error {
			return w.Moved(&wire.Moved{Offset: 5, Lane: wire.LaneBulk, Stripes: 2})
		})
}

// recordMoved is the rest of the answer above on two stripes, and an upload that moves at once and breaks off.
func recordMoved(continuation func(name, sender string, stripe int, write ...step), frames func(name, sender string, write ...step)) {
	segment := func(at uint64, s string) step {
		return func(w *wire.Writer) error { return w.Segment(at, []byte(s)) }
	}
	head := func(c wire.Continuation) step { return func(w *wire.Writer) error { return w.Continuation(&c) } }
	end := func(e wire.End) step { return func(w *wire.Writer) error { return w.End(&e) } }
	exchange, generation := request().Exchange, uint64(3)
	of := func(offset uint64, stripe, stripes uint32) wire.Continuation {
		return wire.Continuation{Exchange: exchange, Generation: generation, Offset: offset, Stripe: stripe, Stripes: stripes}
	}

	continuation("moved", "connector", 0, head(of(5, 0, 2)), segment(5, ", "), segment(12, ""),
		end(wire.End{Trailer: wire.Header{{Name: "Digest", Value: "abc"}}}))
	continuation("moved", "connector", 1, head(of(5, 1, 2)), segment(7, "edge!"))

	post := request()
	post.ExpectContinue = false
	frames("upload", "edge", func(w *wire.Writer) error { return w.RequestHead(&post) },
		func(w *wire.Writer) error { return w.Moved(&wire.Moved{Lane: wire.LaneBulk, Stripes: 1}) })
	continuation("upload", "edge", 0, head(of(0, 0, 1)), segment(0, "hello"), segment(5, ""),
		end(wire.End{Code: wire.CodeClientAbort, Message: "the request broke off"}))
}
