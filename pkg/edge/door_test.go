package edge

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// knock makes a TLS handshake at the door as a client that names host and protocols, and returns both ends.
func knock(d *doors, server, client *tls.Config, protocols ...string) (at *comer, took time.Duration, err error) {
	near, far := net.Pipe()
	at = &comer{Conn: far}
	conf := client.Clone()
	conf.NextProtos = protocols
	began := time.Now()
	served := make(chan error, 1)
	go func() { served <- tls.Server(at, d.atDoor(server, linktest.ServerName)).Handshake() }()
	err = tls.Client(near, conf).Handshake()
	took = time.Since(began)
	if err == nil {
		err = <-served
	} else {
		_ = near.Close()
		<-served
	}
	return at, took, err
}

func TestConnectorsWaitBeforeTLSAndNobodyElseDoes(t *testing.T) {
	server, client := linktest.TLS(t)
	server.NextProtos = []string{"h2", "http/1.1"}
	server.SessionTicketsDisabled = true // nobody reads after the handshake
	synctest.Test(t, func(t *testing.T) {
		d := newDoors(metric.New())
		d.tcp = tunnel.Door{Places: 1, Limit: time.Minute}
		first, _, err := knock(d, server, client, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		if _, took, err := knock(d, server, client, "http/1.1"); err == nil || took != doorWait {
			t.Errorf("a second one, with one place: %v after %v", err, took)
		}
		if _, took, err := knock(d, server, client, "h2", "http/1.1"); err != nil || took != 0 {
			t.Errorf("a browser: %v after %v", err, took)
		}
		time.AfterFunc(time.Second, func() { _ = first.Close() })
		next, took, err := knock(d, server, client, "http/1.1")
		if err != nil || took != time.Second {
			t.Errorf("one that waits for a place: %v after %v", err, took)
		}
		next.left() // as an admitted link does
		if last, took, err := knock(d, server, client, "http/1.1"); err != nil || took != 0 {
			t.Errorf("after one was admitted: %v after %v", err, took)
		} else {
			_ = last.Close()
		}
		_ = next.Close()
	})
}

// Without their socket links get no congestion control of their own, and know no round trip.
func TestLinksReachTheirSocket(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp4", l.Addr().String()); err == nil {
			_ = c.Close()
		}
	}()
	accepted, err := comers{guard.NewLimits(guard.DefaultLimits(), nil, nil).Listener(l)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {}); err != nil {
		t.Error(err)
	}
}
