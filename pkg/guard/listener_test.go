package guard_test

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/gather"
	"github.com/sallyport-dev/sallyport/pkg/guard"
)

// Links that come in here set options of their socket, and large answers hold its writes back: both are found under TLS.
func TestTheSocketIsFoundUnderTLS(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := guard.NewLimits(guard.LimitConfig{}, nil, nil).Listener(inner)
	t.Cleanup(func() { _ = l.Close() })
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close() })
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	secured := tls.Server(accepted, &tls.Config{MinVersion: tls.VersionTLS13})
	if gather.Under(secured) == nil {
		t.Error("nothing holds writes back")
	}
	socket, ok := secured.NetConn().(syscall.Conn)
	if !ok {
		t.Fatal("no socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
}
