package exchangetest

import (
	"context"
	"io"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func upgradeHead() wire.RequestHead {
	h := head("GET", 0)
	h.Upgrade = "websocket"
	return h
}

func switching() wire.ResponseHead { return wire.ResponseHead{Status: 101, Upgrade: "websocket"} }

func connect(t *testing.T, p *pair) exchange.Conn {
	t.Helper()
	resp := p.do(t, &exchange.Request{Head: upgradeHead()})
	conn, ok := resp.Upgraded()
	if !ok || resp.Head.Status != 101 {
		t.Fatalf("not upgraded: %+v", resp.Head)
	}
	return conn
}

func upgrade(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		conn, err := out.Upgrade(switching())
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.Copy(conn, conn)
		_, _ = io.WriteString(conn, "-bye") // after the peer's half-close
		_ = conn.CloseWrite()
	})
	conn := connect(t, p)
	buf := make([]byte, 5)
	for range 3 {
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b := readAll(t, conn); string(b) != "-bye" {
		t.Errorf("after the half-close: %q", b)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := p.left(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func upgradeBroken(t *testing.T, p *pair) {
	ended := make(chan error, 1)
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		conn, err := out.Upgrade(switching())
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
		ended <- err
	})
	_ = connect(t, p).Close()
	wantAbort(t, <-ended, wire.CodeClientAbort)
	_ = p.left(t)

	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		conn, err := out.Upgrade(switching())
		if err == nil {
			_, _ = conn.Read(make([]byte, 1)) // and leaves it open
		}
	})
	conn := connect(t, p)
	_, _ = io.WriteString(conn, "x")
	_, err := io.ReadAll(conn)
	wantAbort(t, err, wire.CodeOriginAbort)
	_ = p.left(t)
}

func upgradeRefused(t *testing.T, p *pair) {
	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 403, ContentLength: 2})
		_, _ = io.WriteString(out, "no")
		_ = out.End(nil)
	})
	resp := p.do(t, &exchange.Request{Head: upgradeHead()})
	if _, ok := resp.Upgraded(); ok || resp.Head.Status != 403 {
		t.Errorf("%+v", resp.Head)
	}
	if b := readAll(t, resp.Body); string(b) != "no" {
		t.Errorf("got %q", b)
	}
	if err := p.left(t); err != nil {
		t.Errorf("Serve: %v", err)
	}

	p.handle(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		if _, err := out.Upgrade(switching()); err == nil {
			return
		}
		_ = out.Head(wire.ResponseHead{Status: 200})
		_ = out.End(nil)
	})
	if resp := p.do(t, &exchange.Request{Head: head("GET", 0)}); resp.Head.Status != 200 {
		t.Errorf("an upgrade that nobody asked for: %+v", resp.Head)
	}
}
