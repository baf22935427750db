package connector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/certs"
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

// With tls_inspection ca_file says whom to trust outside, and has no say in who is the edge; without it, it has where there is no pin.
func TestFirewallsCADoesNotMakeEdges(t *testing.T) {
	text, ca := selfSignedCA(t)
	cfg := Config{CAFile: filepath.Join(t.TempDir(), "firewall.pem")}
	if err := os.WriteFile(cfg.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	edge := Identity{Edge: "https://edge.invalid"}
	trusts := func(conf *tls.Config) bool {
		if conf == nil || conf.RootCAs == nil {
			return false
		}
		_, err := ca.Verify(x509.VerifyOptions{Roots: conf.RootCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil
	}
	target, err := cfg.Target(edge)
	if err != nil || !trusts(target.TLS) || target.Outer != nil {
		t.Errorf("without the key: %v, trusted for the edge: %t", err, trusts(target.TLS))
	}
	cfg.TLSInspection = true
	for name, c := range map[string]Config{"the edge of the enrolment": cfg, "another edge": cfg} {
		target, err := c.Target(edge)
		if name == "another edge" {
			target, err = c.target(edge, "https://other.invalid")
		}
		if err != nil || trusts(target.TLS) || !trusts(target.Outer) {
			t.Errorf("%s: %v, trusted for the edge: %t, outside: %t", name, err, trusts(target.TLS), trusts(target.Outer))
		}
	}
	before := cfg.way()
	if cfg.TLSInspection = false; bytes.Equal(cfg.way(), before) {
		t.Error("a reload that changes the key opens no other links")
	}
	cfg = *Default()
	cfg.TLSInspection, cfg.Transport = true, TransportQUIC
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "tls_inspection") {
		t.Errorf("with QUIC alone: %v", err)
	}
}

func selfSignedCA(t *testing.T) ([]byte, *x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	if err := certs.InitLocalCA(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return text, ca
}

func countDial(n *int) func(context.Context, netip.AddrPort) (tunnel.Link, error) {
	return func(context.Context, netip.AddrPort) (tunnel.Link, error) {
		*n++
		return nil, errors.New("counted")
	}
}
