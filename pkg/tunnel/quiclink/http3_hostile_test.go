package quiclink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// get is the head of a GET, whole: HEADERS with four fields, for edge.test.
func get() []byte {
	return append([]byte{0x01, 0x10, 0x00, 0x00, 0xd1, 0xd7, 0x50, 0x09}, "edge.test\xc1"...)[:18]
}

// frame is an HTTP/3 frame (RFC 9114 §7.1) that says it has length bytes.
func frame(kind, length uint64, payload ...byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), length), payload...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestHostileHTTP3: whatever a browser that is none sends, its connection or stream ends, or it is answered by the rules, and
// others are answered meanwhile (attack case E1).
func TestHostileHTTP3(t *testing.T) {
	const most = 5
	s := serveHTTP3(t, quiclink.HTTP3{MaxStreams: most, HeaderTimeout: 300 * time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "answered")
	})
	const (
		control, push, settings, goaway, data, headers = 0x00, 0x01, 0x04, 0x07, 0x00, 0x01
		grease                                         = 0x21 // RFC 9114 §7.2.8
	)
	type hostile struct {
		// oneWay are streams in one direction, request one in both; fin ends them.
		oneWay  [][]byte
		request []byte
		fin     bool
		// closed is how the connection ends; 0: it does not. cut: the stream does, by a reset. refused: there is an answer that
		// the handler did not give. Else there is the handler's.
		closed       http3.ErrCode
		cut, refused bool
	}
	for name, c := range map[string]hostile{
		"control stream ends":           {oneWay: [][]byte{join([]byte{control}, frame(settings, 0))}, fin: true, closed: http3.ErrCodeClosedCriticalStream},
		"two control streams":           {oneWay: [][]byte{join([]byte{control}, frame(settings, 0)), {control}}, closed: http3.ErrCodeStreamCreationError},
		"no SETTINGS first":             {oneWay: [][]byte{join([]byte{control}, frame(goaway, 1, 0))}, closed: http3.ErrCodeMissingSettings},
		"SETTINGS without an end":       {oneWay: [][]byte{join([]byte{control}, frame(settings, 1<<30))}, closed: http3.ErrCodeFrameError},
		"the same setting twice":        {oneWay: [][]byte{join([]byte{control}, frame(settings, 4, 0x06, 0x01, 0x06, 0x01))}, closed: http3.ErrCodeFrameError},
		"a push stream":                 {oneWay: [][]byte{{push, 0}}, closed: http3.ErrCodeStreamCreationError},
		"SETTINGS twice":                {oneWay: [][]byte{join([]byte{control}, frame(settings, 0), frame(settings, 0))}, closed: http3.ErrCodeFrameUnexpected},
		"one-way streams of any kind":   {oneWay: [][]byte{{grease, 1, 2, 3}, {grease, 1}, {grease}}, request: get(), fin: true},
		"DATA before HEADERS":           {request: frame(data, 1, 0), closed: http3.ErrCodeFrameUnexpected},
		"a frame of HTTP/2":             {request: frame(0x02, 1, 0), closed: http3.ErrCodeFrameUnexpected},
		"SETTINGS on a request":         {request: frame(settings, 0), closed: http3.ErrCodeFrameUnexpected},
		"unknown frames, then a GET":    {request: join(bytes.Repeat(frame(grease, 2, 1, 2), 100), get()), fin: true},
		"an unknown frame without end":  {request: frame(grease, 1<<40), cut: true},
		"a head that does not end":      {request: frame(headers, 100, 0, 0), cut: true},
		"a head over the limit":         {request: frame(headers, 1<<20, 0, 0), refused: true},
		"a head of nothing":             {request: frame(headers, 0), fin: true, cut: true},
		"QPACK garbage":                 {request: frame(headers, 4, 0xff, 0xff, 0xff, 0xff), fin: true, cut: true},
		"a reference to no table":       {request: frame(headers, 3, 0x02, 0x00, 0x80), fin: true, cut: true},
		"nothing, and the stream ends":  {request: []byte{}, fin: true, cut: true},
		"DATA of no length, many times": {request: join(get(), bytes.Repeat(frame(data, 0), 2000)), fin: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.conn()
			for _, b := range c.oneWay {
				stream, err := conn.OpenUniStream()
				if err != nil {
					t.Fatal(err)
				}
				_, _ = stream.Write(b)
				if c.fin {
					_ = stream.Close()
				}
			}
			var answer []byte
			var err error
			if c.request != nil {
				answer, err = ask(t, conn, c.request, c.fin)
			}
			var closed *quic.ApplicationError
			var cut *quic.StreamError
			switch {
			case c.closed != 0:
				select {
				case <-conn.Context().Done():
				case <-time.After(patience):
					t.Fatalf("the connection lives; the stream: %q %v", answer, err)
				}
				if cause := context.Cause(conn.Context()); !errors.As(cause, &closed) || !closed.Remote || closed.ErrorCode != quic.ApplicationErrorCode(c.closed) {
					t.Errorf("ended with %v, want %v", cause, c.closed)
				}
			case c.cut:
				if !errors.As(err, &cut) || !cut.Remote {
					t.Errorf("%q, %v", answer, err)
				}
			case c.refused:
				if err != nil || len(answer) == 0 || answer[0] != headers || bytes.Contains(answer, []byte("answered")) {
					t.Errorf("%q, %v", answer, err)
				}
			case !bytes.Contains(answer, []byte("answered")):
				t.Errorf("%q, %v", answer, err)
			}
			if _, text := s.do(s.request(http.MethodGet, "/", nil)); text != "answered" {
				t.Errorf("another browser got %q", text)
			}
		})
	}
}

// ask sends bytes on a stream and returns what came back until its end.
func ask(t *testing.T, conn *quic.Conn, request []byte, fin bool) ([]byte, error) {
	t.Helper()
	stream, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Write(request)
	if fin {
		_ = stream.Close()
	}
	_ = stream.SetReadDeadline(time.Now().Add(patience))
	return io.ReadAll(stream)
}

// A browser that asks and never reads holds as many handlers as it may have and no more, until it is gone.
func TestHTTP3PeerThatNeverReads(t *testing.T) {
	const most = 3
	var at, peak atomic.Int64
	ended := make(chan struct{}, 100)
	s := serveHTTP3(t, quiclink.HTTP3{MaxStreams: most}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Honest") != "" {
			_, _ = io.WriteString(w, "answered")
			return
		}
		defer func() { ended <- struct{}{} }()
		n := at.Add(1)
		defer at.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 64<<10))
		}
	})
	conn := s.conn()
	opened := 0
	for ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond); ; opened++ {
		stream, err := conn.OpenStreamSync(ctx)
		if err != nil {
			cancel()
			break
		}
		_, _ = stream.Write(get())
		_ = stream.Close()
	}
	honest := s.request(http.MethodGet, "/", nil)
	honest.Header.Set("X-Honest", "1")
	if _, text := s.do(honest); text != "answered" {
		t.Errorf("another browser got %q", text)
	}
	if peak.Load() != most || opened > 3*most {
		t.Errorf("%d handlers for %d streams, want %d", peak.Load(), opened, most)
	}
	_ = conn.CloseWithError(0, "")
	for range most {
		<-ended
	}
}
