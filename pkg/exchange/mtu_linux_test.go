package exchange_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// place is a network namespace: what is done there opens its sockets there.
type place struct {
	t      *testing.T
	thread int
	work   chan func()
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, work: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, with its namespace, ends with the goroutine
		p.thread = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		if err != nil {
			return
		}
		for f := range p.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	t.Cleanup(func() { close(p.work) })
	return p
}

// do runs f on the thread that is in the namespace.
func (p *place) do(f func()) {
	done := make(chan struct{})
	p.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (p *place) ip(args ...string) {
	p.t.Helper()
	p.do(func() {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			p.t.Errorf("ip %v: %v %s", args, err, out)
		}
	})
}

// cable joins an edge and a connector.
type cable struct{ edge, connector *place }

const (
	edgeIP      = "10.98.0.1"
	connectorIP = "10.98.0.2"
)

func newCable(t *testing.T, mtu int) *cable {
	t.Helper()
	c := &cable{edge: newPlace(t), connector: newPlace(t)}
	c.edge.ip("link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
	c.edge.ip("link", "set", "cable1", "netns", strconv.Itoa(c.connector.thread))
	c.edge.ip("address", "add", edgeIP+"/24", "dev", "cable0")
	c.connector.ip("address", "add", connectorIP+"/24", "dev", "cable1")
	c.setMTU(mtu)
	c.edge.ip("link", "set", "cable0", "up")
	c.connector.ip("link", "set", "cable1", "up")
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *cable) setMTU(mtu int) {
	c.edge.ip("link", "set", "cable0", "mtu", strconv.Itoa(mtu))
	c.connector.ip("link", "set", "cable1", "mtu", strconv.Itoa(mtu))
}

func (c *cable) quic(t testing.TB) (edge, connector tunnel.Link) {
	server, client := linktest.TLS(t)
	var socket, dialling net.PacketConn
	var err, errDial error
	c.edge.do(func() { socket, err = net.ListenPacket("udp4", edgeIP+":0") })
	c.connector.do(func() { dialling, errDial = net.ListenPacket("udp4", connectorIP+":0") })
	if err != nil || errDial != nil {
		t.Fatal(err, errDial)
	}
	listener, err := quiclink.NewListener(socket, server, quiclink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = socket.Close()
	})
	d := &quiclink.Dialer{Socket: func(context.Context, netip.AddrPort) (net.PacketConn, error) { return dialling, nil }}
	dialled, err := d.Dial(t.Context(), tunnel.Target{Address: socket.LocalAddr().String(), TLS: client})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return admitted(t, accepted, dialled)
}

func (c *cable) websocket(t testing.TB) (edge, connector tunnel.Link) {
	serverTLS, clientTLS := linktest.TLS(t)
	var listener net.Listener
	var err error
	c.edge.do(func() { listener, err = net.Listen("tcp4", edgeIP+":0") })
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan tunnel.Link, 1)
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0), TLSConfig: serverTLS, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if link, err := wslink.Accept(w, r, wslink.Config{}); err == nil {
				accepted <- link
			}
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	d := &wslink.Dialer{Connect: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		c.connector.do(func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String()) })
		return conn, err
	}}
	dialled, err := d.Dial(t.Context(), tunnel.Target{Address: listener.Addr().String(), TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	return admitted(t, <-accepted, dialled)
}

// TestSmallMTU: over a path that lets packets of 1,280 bytes through and no larger, from the first one on or from the
// middle of a link's life, exchanges run and bodies arrive whole, where they began and moved.
func TestSmallMTU(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and ip(8) for network namespaces")
	}
	newPlace(t) // skips where there are none
	for name, first := range map[string]int{"from the beginning": 1280, "in mid-life": 1500} {
		t.Run(name, func(t *testing.T) {
			c := newCable(t, first)
			for name, links := range map[string]func(testing.TB) (_, _ tunnel.Link){"quic": c.quic, "websocket": c.websocket} {
				c.setMTU(first)
				var moved atomic.Int64
				b := newBenchOver(t, links, func(t testing.TB) (_, _ tunnel.Link) {
					edge, connector := c.websocket(t)
					return connector, edge
				}, 2, 0, func(link, n int, s tunnel.Stream, table *exchange.Continuations) {
					moved.Add(1)
					accepting(link, n, s, table)
				})
				b.serve(now(), b.sending, func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
					_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: in.Head.ContentLength})
					if _, err := io.Copy(out, in.Body); err == nil {
						_ = out.End(nil)
					}
				})
				number := 0
				b.echo(t, name, &number, 1000, 200<<10, 4<<20)
				c.setMTU(1280)
				b.echo(t, name+" at 1,280", &number, 1000, 200<<10, 4<<20)
				if moved.Load() != 2*2 {
					t.Errorf("%s: %d streams for two bodies that should move to two links", name, moved.Load())
				}
			}
		})
	}
}

// echo sends bodies of these sizes up and takes them back.
func (b *bench) echo(t *testing.T, name string, number *int, sizes ...int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, size := range sizes {
		*number++
		sent, came := sha256.New(), sha256.New()
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(*number)}), size), sent)
		resp, err := exchange.Do(ctx, b.edge, &exchange.Request{Head: numbered(*number, size), Body: body, Moves: b.receiving})
		if err != nil {
			t.Errorf("%s, %d bytes: %v", name, size, err)
			continue
		}
		n, err := io.Copy(came, resp.Body)
		_ = resp.Body.Close()
		if err != nil || n != size || string(sent.Sum(nil)) != string(came.Sum(nil)) {
			t.Errorf("%s, %d bytes: %d came, %v", name, size, n, err)
		}
	}
}
