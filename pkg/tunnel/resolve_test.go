package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An edge that was reached is found again while DNS is down, and no other name is.
func TestRememberedAddressServesWhileDNSIsDown(t *testing.T) {
	target := Target{Address: "edge.localhost:8443", Known: new(Addresses)}
	ways := errors.New("no way there")
	var tried []netip.AddrPort
	dial := func(err error) func(context.Context, netip.AddrPort) (Link, error) {
		return func(_ context.Context, at netip.AddrPort) (Link, error) {
			tried = append(tried, at)
			return nil, err
		}
	}
	if _, err := FirstAddress(t.Context(), target, dial(ways)); !errors.Is(err, ways) || target.Known.last != nil {
		t.Fatalf("%v: an address without an edge is remembered: %v", err, target.Known.last)
	}
	if _, err := FirstAddress(t.Context(), target, dial(nil)); err != nil || target.Known.host != "edge.localhost" || len(target.Known.last) == 0 {
		t.Fatalf("%v: not remembered: %+v", err, target.Known.last)
	}
	// A name that no DNS has (RFC 6761 §6.4) stands for one that no DNS answers for.
	at := netip.MustParseAddr("192.0.2.7")
	target = Target{Address: "edge.invalid:443", Known: new(Addresses)}
	target.Known.Remember("edge.invalid", []netip.Addr{at})
	tried = nil
	if _, err := FirstAddress(t.Context(), target, dial(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{netip.AddrPortFrom(at, 443).String()}, texts(tried)); diff != "" {
		t.Error(diff)
	}
	target.Address = "other.invalid:443"
	if _, err := FirstAddress(t.Context(), target, dial(nil)); err == nil {
		t.Error("another name is taken for the one that was reached")
	}
	target.Known = nil
	if _, err := FirstAddress(t.Context(), target, dial(nil)); err == nil {
		t.Error("reached without an address")
	}
}

func texts(list []netip.AddrPort) []string {
	out := make([]string, len(list))
	for i, at := range list {
		out[i] = at.String()
	}
	return out
}
