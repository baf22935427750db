package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestOnePortForTCPAndUDP(t *testing.T) {
	s, err := listen(t.Context(), "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	if tcp, udp := s.tcp.Addr().(*net.TCPAddr).Port, s.udp.LocalAddr().(*net.UDPAddr).Port; tcp != udp {
		t.Errorf("TCP %d, UDP %d", tcp, udp)
	}
	if _, err := listen(t.Context(), s.tcp.Addr().String(), true); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := errors.Join(s.tcp.Close(), s.udp.Close()); err != nil {
		t.Error(err)
	}
}

func TestAPortThatIsTakenForUDPAloneIsRefusedWhole(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	address := udp.LocalAddr().String()
	if _, err := listen(t.Context(), address, true); err == nil {
		t.Fatal("accepted")
	}
	s, err := listen(t.Context(), address, false) // TCP was let go, and is enough without QUIC
	if err != nil {
		t.Fatal(err)
	}
	if s.udp != nil {
		t.Error("UDP is open without QUIC")
	}
	_ = s.tcp.Close()
}

// A browser that tries HTTP/3 on an app's host must not get the tunnel's certificate under that name.
func TestOnlyTheEdgesNameIsServedOverQUIC(t *testing.T) {
	cert := &tls.Certificate{}
	conf := linkTLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}, "edge.example")
	for name, want := range map[string]*tls.Certificate{"edge.example": cert, "oscar.maple.example": nil, "": nil} {
		got, err := conf.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
}

// limits.connections is what an operator with many connectors raises.
func TestConnectionsAreLimitedAsConfigured(t *testing.T) {
	c := prepared(t)
	c.Limits.Connections = 1
	e := running(t, c)
	first, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if _, err := handshake(t, e, "edge.example"); err == nil {
		t.Error("a second connection is taken")
	}
	_ = first.Close()
	eventually(t, "the place to be free again", func() bool {
		_, err := handshake(t, e, "edge.example")
		return err == nil
	})
}
