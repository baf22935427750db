package connector

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Where the edge was is known after a restart, for that edge alone; a damaged file is as good as none.
func TestAddressesOutliveTheProcess(t *testing.T) {
	cfg := Config{StateDir: t.TempDir()}
	at := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	cfg.remembered("edge.invalid").Remember("edge.invalid", at)
	tried := func(host string) (n int) {
		target := tunnel.Target{Address: host + ":443", Known: cfg.remembered(host)}
		_, _ = tunnel.FirstAddress(t.Context(), target, countDial(&n))
		return n
	}
	if n := tried("edge.invalid"); n == 0 {
		t.Error("forgotten over a restart")
	}
	if n := tried("other.invalid"); n != 0 {
		t.Error("taken for another edge")
	}
	if err := os.WriteFile(filepath.Join(cfg.StateDir, addressFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := tried("edge.invalid"); n != 0 {
		t.Error("a damaged file was read")
	}
}

func countDial(n *int) func(context.Context, netip.AddrPort) (tunnel.Link, error) {
	return func(context.Context, netip.AddrPort) (tunnel.Link, error) {
		*n++
		return nil, errors.New("counted")
	}
}
