package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func TestAnnouncementsArriveInParts(t *testing.T) {
	var all []Holding
	for i := range 2*perMessage + 1 {
		all = append(all, Holding{Tenant: "maple", Site: "main", Connector: "con_1", Edge: "west", Generation: uint64(i + 1), Links: 1, Once: i%2 == 0, Quiet: i%3 == 0})
	}
	for _, n := range []int{0, 1, perMessage, perMessage + 1, len(all)} {
		l := &peerLink{out: make(chan *tunnelv1.PeerControl, 8)}
		l.announce(Announcement{Edge: "west", Incarnation: 2, Version: 9, Full: true, Holdings: all[:n]})
		h := &hearing{edge: "west"}
		var got *Announcement
		for len(l.out) > 0 {
			if got != nil {
				t.Fatal("something follows what was complete")
			}
			var err error
			if got, err = h.part((<-l.out).GetHoldings()); err != nil {
				t.Fatal(err)
			}
		}
		if got == nil || !got.Full || got.Version != 9 || got.Incarnation != 2 || fmt.Sprint(got.Holdings) != fmt.Sprint(append([]Holding{}, all[:n]...)) {
			t.Errorf("%d: %.200v", n, got)
		}
	}
}

func TestWhatNoPeerSays(t *testing.T) {
	good := func() *tunnelv1.PeerHolding {
		return &tunnelv1.PeerHolding{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 1, Links: 1}
	}
	for name, change := range map[string]func(*tunnelv1.PeerHolding){
		"no tenant":     func(h *tunnelv1.PeerHolding) { h.Tenant = "" },
		"odd tenant":    func(h *tunnelv1.PeerHolding) { h.Tenant = "Maple/1" },
		"no site":       func(h *tunnelv1.PeerHolding) { h.Site = "" },
		"no connector":  func(h *tunnelv1.PeerHolding) { h.Connector = "" },
		"long name":     func(h *tunnelv1.PeerHolding) { h.Connector = strings.Repeat("c", maxID+1) },
		"control in it": func(h *tunnelv1.PeerHolding) { h.Connector = "con\n1" },
		"no generation": func(h *tunnelv1.PeerHolding) { h.Generation = 0 },
	} {
		h := good()
		change(h)
		if _, err := (&hearing{}).part(&tunnelv1.PeerHoldings{Holdings: []*tunnelv1.PeerHolding{h}}); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := &hearing{}
	if _, err := h.part(&tunnelv1.PeerHoldings{Version: 1, More: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.part(&tunnelv1.PeerHoldings{Version: 2}); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("one announcement within another: %v", err)
	}
}

// FuzzPeerSays takes any control message of a peer.
func FuzzPeerSays(f *testing.F) {
	for _, m := range []*tunnelv1.PeerControl{
		{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{Full: true, Holdings: []*tunnelv1.PeerHolding{{Tenant: "maple", Links: 1}}}}},
		{Message: &tunnelv1.PeerControl_Changes{Changes: &tunnelv1.PeerChanges{Changes: []*tunnelv1.PeerChange{{Kind: "session", Id: "ses_1"}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m tunnelv1.PeerControl
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if holdings := m.GetHoldings(); holdings != nil {
			a, err := (&hearing{edge: "west"}).part(holdings)
			if err != nil && !errors.Is(err, wire.ErrProtocol) {
				t.Fatal(err)
			}
			if a != nil {
				members := NewMembers("east")
				members.Announce(*a)
			}
		}
		if changes := m.GetChanges(); changes != nil {
			if _, err := readChanges(changes); err != nil && !errors.Is(err, wire.ErrProtocol) {
				t.Fatal(err)
			}
		}
	})
}
