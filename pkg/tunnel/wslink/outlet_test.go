package wslink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Frames of every size are read by another implementation as they were meant, masked and not.
func TestMessagesAreWhatTheLibraryReads(t *testing.T) {
	for name, masks := range map[string]bool{"masked": true, "unmasked": false} {
		t.Run(name, func(t *testing.T) {
			read := make(chan []byte)
			sender := library(t, masks, read)
			header := []byte("twelve bytes")
			for _, size := range []int{0, 1, 2, 3, 112, 113, 114, 115, 1023, 1024, 1025, 4095, maxChunk, maxMessage - yamuxHeader - 1, maxMessage - yamuxHeader} {
				body := make([]byte, size)
				for i := range body {
					body[i] = byte(i * 7)
				}
				fault := make(chan error, 1)
				go func() { fault <- sender.message(header, body) }()
				if got := <-read; !bytes.Equal(got, append(bytes.Clone(header), body...)) {
					t.Fatalf("%d bytes: %d others came", size, len(got))
				}
				if err := <-fault; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A stream opens in one message with what is first written on it, header and payload of data travel together, and no message is
// larger than what the peer takes.
func TestFramesTravelTogether(t *testing.T) {
	frame := func(kind byte, flags uint16, length int) []byte {
		h := make([]byte, yamuxHeader)
		h[1] = kind
		binary.BigEndian.PutUint16(h[2:], flags)
		binary.BigEndian.PutUint32(h[8:], uint32(length))
		return h
	}
	open, ping := frame(yamuxWindow, yamuxSYN, 1<<20), frame(yamuxPing, 0, 0)
	small, large := make([]byte, yamuxHeader), make([]byte, maxChunk)
	copy(small, open) // a payload that looks like a frame
	for name, row := range map[string]struct {
		opens  bool
		writes [][]byte
		want   []int // sizes of the messages
	}{
		"data":                        {false, [][]byte{frame(yamuxData, 0, len(small)), small, ping}, []int{24, 12}},
		"a stream and data":           {true, [][]byte{open, frame(yamuxData, 0, len(small)), small}, []int{36}},
		"a stream and much":           {true, [][]byte{open, frame(yamuxData, 0, len(large)), large}, []int{24, maxChunk}},
		"two streams and another's":   {true, [][]byte{open, open, ping}, []int{36}},
		"a stream nobody will use":    {false, [][]byte{open, ping}, []int{12, 12}},
		"two streams and small bytes": {true, [][]byte{open, open, frame(yamuxData, 0, len(small)), small}, []int{36, 12}},
	} {
		t.Run(name, func(t *testing.T) {
			read := make(chan []byte, len(row.writes))
			c := &conn{out: library(t, true, read), done: make(chan struct{})}
			c.pending = c.header[:0]
			c.opens.Store(row.opens)
			for _, w := range row.writes {
				if _, err := c.Write(w); err != nil {
					t.Fatal(err)
				}
			}
			var got []byte
			for i, size := range row.want {
				message := <-read
				if len(message) != size || len(message) > maxMessage {
					t.Errorf("message %d has %d bytes, want %d", i, len(message), size)
				}
				got = append(got, message...)
			}
			if !bytes.Equal(got, bytes.Join(row.writes, nil)) {
				t.Error("other bytes, or in another order")
			}
		})
	}
}

// library returns an outlet to a connection of the library, which gives what it reads to read.
func library(t *testing.T, dialled bool, read chan<- []byte) *outlet {
	t.Helper()
	take := func(ws *websocket.Conn) {
		ws.SetReadLimit(maxMessage)
		for {
			_, p, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			read <- p
		}
	}
	conns := make(chan net.Conn, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if dialled { // the peer is the library's server
			if ws, err := websocket.Accept(w, r, nil); err == nil {
				take(ws)
			}
			return
		}
		kept := &hijackKeeper{ResponseWriter: w}
		if _, err := websocket.Accept(kept, r, nil); err == nil {
			conns <- kept.conn
		}
	}))
	t.Cleanup(s.Close)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if dialled && err == nil {
			conns <- c
		}
		return c, err
	}}}
	ws, _, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // Dial leaves none to close
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	if !dialled {
		go take(ws)
	}
	c := <-conns
	t.Cleanup(func() { _ = c.Close() })
	return newOutlet(c, time.Minute, dialled)
}

type hijackKeeper struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijackKeeper) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	c, rw, err = http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = c
	return c, rw, err
}
