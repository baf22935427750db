package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func socketOrigin(t *testing.T) string {
	return origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(1 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, b); err != nil {
				return
			}
		}
	})
}

func dialSocket(t *testing.T, w *way, path string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c, resp, err := websocket.Dial(ctx, w.edge.URL+path, &websocket.DialOptions{Host: publicHost, HTTPClient: w.client()})
	if err == nil {
		c.SetReadLimit(1 << 20)
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, resp, err
}

func TestWebSocket(t *testing.T)        { testWebSocket(t, wayConfig{}) }
func TestWebSocketOverTLS(t *testing.T) { testWebSocket(t, wayConfig{tls: true}) }

func testWebSocket(t *testing.T, cfg wayConfig) {
	w := newWay(t, socketOrigin(t), cfg)
	c, _, err := dialSocket(t, w, "/oscar/ws/echo")
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"hello", strings.Repeat("x", 300<<10)} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		_, b, err := c.Read(t.Context())
		if err != nil || string(b) != message {
			t.Fatalf("%d bytes back, %v", len(b), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("close handshake: %v", err)
	}
	r := w.result()
	if r.Status != http.StatusSwitchingProtocols || r.BytesIn < 300<<10 || r.BytesOut < 300<<10 || r.ErrorCode != "" {
		t.Errorf("outcome %+v", r)
	}
}

func TestWebSocketOnlyWhereTheAppListsIt(t *testing.T) {
	w := newWay(t, socketOrigin(t), wayConfig{})
	_, resp, err := dialSocket(t, w, "/oscar/wsx")
	if err == nil || resp == nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%v %v: want the plain answer 426", resp, err)
	}
}

func TestRevocationClosesWebSocket(t *testing.T) {
	w := newWay(t, socketOrigin(t), wayConfig{})
	revoke := w.leased()
	c, _, err := dialSocket(t, w, "/oscar/ws/echo")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	revoke()
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Fatal("still open")
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("closed after %s", took)
	}
	if r := w.result(); r.ErrorCode != wire.CodeRevoked {
		t.Errorf("outcome %+v", r)
	}
}

// Neither side is left with an open socket when the other is gone.
func TestWebSocketThatBreaks(t *testing.T) {
	t.Run("at the origin", func(t *testing.T) {
		w := newWay(t, rawOrigin(t, func(c net.Conn, r *bufio.Reader, head string) {
			_, f := fieldsOf(head)
			sum := sha1.Sum([]byte(f["sec-websocket-key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			say(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
				base64.StdEncoding.EncodeToString(sum[:]))
			_, _ = r.ReadByte()
		}), wayConfig{})
		c, _, err := dialSocket(t, w, "/oscar/ws/echo")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Write(t.Context(), websocket.MessageText, []byte("hello"))
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Error("read from an origin that is gone")
		}
		_ = c.CloseNow()
		w.result()
	})
	t.Run("at the browser", func(t *testing.T) {
		gone := make(chan error, 1)
		w := newWay(t, origin(t, func(rw http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer func() { _ = c.CloseNow() }()
			_, _, err = c.Read(context.WithoutCancel(r.Context()))
			gone <- err
		}), wayConfig{})
		c, _, err := dialSocket(t, w, "/oscar/ws/echo")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.CloseNow()
		select {
		case err := <-gone:
			if err == nil {
				t.Error("read from a browser that is gone")
			}
		case <-time.After(patience):
			t.Fatal("the origin's socket is still open")
		}
		w.result()
	})
}
