package wslink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// Peers that completed TLS and then break the rules: the link ends, says why, and nothing of it is left (goleak).
func TestRoguePeers(t *testing.T) {
	for name, misbehave := range map[string]func(*testing.T, *websocket.Conn){
		"a text message": func(t *testing.T, ws *websocket.Conn) {
			_ = ws.Write(t.Context(), websocket.MessageText, []byte("hello"))
		},
		"a message that is too large": func(t *testing.T, ws *websocket.Conn) {
			_ = ws.Write(t.Context(), websocket.MessageBinary, make([]byte, 1<<20))
		},
		"bytes that are not yamux": func(t *testing.T, ws *websocket.Conn) {
			_ = ws.Write(t.Context(), websocket.MessageBinary, bytes.Repeat([]byte{0xff}, 100))
		},
		"streams without end, never given up": func(t *testing.T, ws *websocket.Conn) {
			session := rogueSession(t, ws)
			// Those that come faster than they are taken are refused by yamux itself, and count for nothing.
			for {
				if _, err := session.OpenStream(); err != nil {
					return
				}
			}
		},
		"resets without end, whose answers are not read": func(t *testing.T, ws *websocket.Conn) {
			control, err := rogueSession(t, ws).OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			resets := bytes.Repeat([]byte{1, 0, 0, 0, 2, 0, 0, 0, 1}, 1000)
			for range 1000 {
				if _, err := control.Write(resets); err != nil {
					return
				}
			}
		},
		"pings without end, whose answers are not read": func(t *testing.T, ws *websocket.Conn) {
			// yamux: version 0, ping, SYN, stream 0, a number
			pings := bytes.Repeat([]byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, 1000)
			for range 100 {
				if ws.Write(t.Context(), websocket.MessageBinary, pings) != nil {
					return
				}
			}
		},
		"a first stream that is not the control stream": func(t *testing.T, ws *websocket.Conn) {
			// yamux: version 0, window update, SYN, stream 7, length 0
			_ = ws.Write(t.Context(), websocket.MessageBinary, []byte{0, 1, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := linktest.TLS(t)
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			results := serve(t, l, server)
			transport := &http.Transport{TLSClientConfig: client}
			defer transport.CloseIdleConnections()
			ws, _, err := websocket.Dial(t.Context(), "wss://"+l.Addr().String()+wslink.Path, &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{wslink.Subprotocol},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			link := (<-results).(tunnel.Link)
			link.Admit()
			misbehave(t, ws)
			select {
			case <-link.Done():
			case <-time.After(time.Minute):
				t.Fatal("the link goes on")
			}
			var cause *tunnel.ClosedError
			if !errors.As(link.Cause(), &cause) || cause.Reason.Code != tunnel.ReasonProtocol || cause.Remote {
				t.Errorf("cause: %v", link.Cause())
			}
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		})
	}
}

// rogueSession speaks yamux and reads nothing of what it is told.
func rogueSession(t *testing.T, ws *websocket.Conn) *yamux.Session {
	t.Helper()
	conf := yamux.DefaultConfig()
	conf.LogOutput = io.Discard
	conf.AcceptBacklog = 1 << 16
	conf.StreamOpenTimeout = 0
	session, err := yamux.Client(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}
