package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func request() wire.RequestHead {
	return wire.RequestHead{
		Exchange: 7, RequestID: "0192f0c4-7d1e-7cc3-98c4-dc0c0c07398f", Tenant: "maple", Site: "main", App: "oscar",
		Method: "POST", Scheme: "https", Host: "oscar.maple.localhost:8443", Path: "/oscar/login.do",
		RawQuery: "a=b&c=%E9\xe9", HasQuery: true, ContentLength: -1, ClientIP: "2001:db8::1", Assertion: "a.b.c",
		OriginAssertion: "d.e.f", Hop: 1, TrailerNames: []string{"Digest"}, Generation: 3, Connector: "c1", Again: true, ExpectContinue: true,
		Header: wire.Header{{Name: "Accept", Value: "*/*"}, {Name: "X-Name", Value: "caf\xe9"}, {Name: "X-Empty"}},
	}
}

func response() wire.ResponseHead {
	return wire.ResponseHead{
		Status: 200, ContentLength: 12, TrailerNames: []string{"Digest"},
		Header: wire.Header{{Name: "Content-Type", Value: "text/html"}, {Name: "Set-Cookie", Value: "a=b; Path=/"}},
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFramesComeBack(t *testing.T) {
	var buf bytes.Buffer
	w := wire.NewWriter(&buf)
	q, p, i := request(), response(), wire.Interim{Status: 103, Header: wire.Header{{Name: "Link", Value: "</x>"}}}
	e := wire.End{Trailer: wire.Header{{Name: "Digest", Value: "x"}}}
	m, c := wire.Moved{Offset: 1 << 40, Lane: wire.LaneBulk}, wire.Continuation{Exchange: 7, Generation: 3, Offset: 9}
	must(t, w.RequestHead(&q), w.Interim(&i), w.ResponseHead(&p))
	body := strings.Repeat("0123456789", 10_000)
	for at := 0; at < len(body); at += 1000 {
		_, err := io.WriteString(w, body[at:at+1000])
		must(t, err)
	}
	w.Probe()
	must(t, w.Moved(&m), w.Continuation(&c), w.End(&e), w.Flush())

	r := wire.NewReader(&buf)
	next := func(want wire.FrameType) {
		t.Helper()
		if got, err := r.Next(); got != want || err != nil {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	same := func(want, got any, err error) {
		t.Helper()
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	next(wire.FrameRequestHead)
	q2, err := r.RequestHead()
	same(q, q2, err)
	next(wire.FrameInterim)
	i2, err := r.Interim()
	same(i, i2, err)
	next(wire.FrameResponseHead)
	p2, err := r.ResponseHead()
	same(p, p2, err)
	var got strings.Builder
	frame, err := r.Next()
	for ; frame == wire.FrameData; frame, err = r.Next() {
		_, err := io.Copy(&got, r)
		must(t, err)
	}
	must(t, err)
	if got.String() != body {
		t.Error("the body differs")
	}
	m2, err := r.Moved()
	same(m, m2, err)
	next(wire.FrameContinuation)
	c2, err := r.Continuation()
	same(c, c2, err)
	next(wire.FrameEnd)
	e2, err := r.End()
	same(e, e2, err)
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// counting counts writes.
type counting struct {
	bytes.Buffer
	writes int
}

func (c *counting) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

func TestSmallExchangeIsOneWrite(t *testing.T) {
	var out counting
	w := wire.NewWriter(&out)
	q := request()
	w.Kind(wire.StreamExchange)
	_, err := w.Write(make([]byte, 1024))
	must(t, w.RequestHead(&q), err, w.End(&wire.End{}), w.Flush(), w.Flush())
	if out.writes != 1 {
		t.Errorf("%d writes", out.writes)
	}
}

func TestRefusedEntries(t *testing.T) {
	for _, name := range []string{
		"Content-Length", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "Host", "Keep-Alive",
		"Proxy-Connection", "TE", "Trailer", "HTTP2-Settings", "", "X Y", "X:Y", "X\r\nY", "X\x00", "Ü", ":path",
	} {
		h := wire.Header{{Name: name, Value: "x"}}
		refused(t, name, h)
	}
	for _, value := range []string{"a\rb", "a\nb", "a\x00b", "a\x7fb", "\x01"} {
		refused(t, "value "+value, wire.Header{{Name: "X-A", Value: value}})
	}
}

// Names and assertions are of visible ASCII.
func TestOnlyVisibleBytesInNames(t *testing.T) {
	for c := range 256 {
		q := request()
		q.RequestID = string([]byte{'a', byte(c)})
		err := wire.NewWriter(io.Discard).RequestHead(&q)
		if taken := err == nil; taken != (c > ' ' && c < 0x7f) {
			t.Errorf("0x%02x: %v", c, err)
		}
	}
}

// refused checks that neither side takes h as a head's entries.
func refused(t *testing.T, what string, h wire.Header) {
	t.Helper()
	q := request()
	q.Header = h
	if err := wire.NewWriter(io.Discard).RequestHead(&q); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("%q: the writer says %v", what, err)
	}
	var fields []*tunnelv1.Field
	for _, f := range h {
		fields = append(fields, &tunnelv1.Field{Name: strings.ToValidUTF8(f.Name, "?"), Value: []byte(f.Value)})
	}
	payload, err := proto.Marshal(&tunnelv1.ResponseHead{Status: 200, Header: fields})
	must(t, err)
	r := wire.NewReader(frame(wire.FrameResponseHead, payload))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ResponseHead(); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("%q: the reader says %v", what, err)
	}
}

func frame(t wire.FrameType, payload []byte) io.Reader {
	n := len(payload)
	return bytes.NewReader(append([]byte{byte(t), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...))
}

func TestRefusedHeads(t *testing.T) {
	for name, change := range map[string]func(*wire.RequestHead){
		"no method":           func(h *wire.RequestHead) { h.Method = "" },
		"lower-case method":   func(h *wire.RequestHead) { h.Method = "get" },
		"CONNECT":             func(h *wire.RequestHead) { h.Method = "CONNECT" },
		"TRACE":               func(h *wire.RequestHead) { h.Method = "TRACE" },
		"preface":             func(h *wire.RequestHead) { h.Method = "PRI" },
		"scheme":              func(h *wire.RequestHead) { h.Scheme = "file" },
		"no host":             func(h *wire.RequestHead) { h.Host = "" },
		"user in host":        func(h *wire.RequestHead) { h.Host = "a@b" },
		"asterisk":            func(h *wire.RequestHead) { h.Path = "*" },
		"absolute form":       func(h *wire.RequestHead) { h.Path = "http://x/" },
		"query in path":       func(h *wire.RequestHead) { h.Path = "/a?b" },
		"blank in path":       func(h *wire.RequestHead) { h.Path = "/a b" },
		"line break in query": func(h *wire.RequestHead) { h.RawQuery = "a\r\nb" },
		"fragment":            func(h *wire.RequestHead) { h.RawQuery = "a#b" },
		"query without mark":  func(h *wire.RequestHead) { h.HasQuery = false },
		"long target":         func(h *wire.RequestHead) { h.Path = "/" + strings.Repeat("a", wire.MaxTarget) },
		"negative length":     func(h *wire.RequestHead) { h.ContentLength = -2 },
		"h2c":                 func(h *wire.RequestHead) { h.Upgrade, h.ContentLength, h.ExpectContinue = "h2c", 0, false },
		"upgrade with a body": func(h *wire.RequestHead) { h.Upgrade, h.ExpectContinue = "websocket", false },
		"client address":      func(h *wire.RequestHead) { h.ClientIP = "1.2.3.4, 5.6.7.8" },
		"client address zone": func(h *wire.RequestHead) { h.ClientIP = "fe80::1%x, 127.0.0.1" },
		"assertion":           func(h *wire.RequestHead) { h.Assertion = "a b" },
		"hops":                func(h *wire.RequestHead) { h.Hop = wire.MaxHop + 1 },
		"again, and no id":    func(h *wire.RequestHead) { h.Again, h.RequestID = true, "" },
		"tenant":              func(h *wire.RequestHead) { h.Tenant = "a\nb" },
		"trailer name":        func(h *wire.RequestHead) { h.TrailerNames = []string{"Authorization"} },
	} {
		h := request()
		if change(&h); !errors.Is(h.Validate(), wire.ErrProtocol) {
			t.Errorf("%s: %v", name, h.Validate())
		}
	}
	for name, h := range map[string]wire.ResponseHead{
		"no status":        {},
		"interim":          {Status: 103},
		"101 to nothing":   {Status: 101},
		"upgrade with 200": {Status: 200, Upgrade: "websocket"},
		"code":             {Status: 502, ErrorCode: "oops"},
	} {
		if err := h.Validate(); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, e := range map[string]wire.End{
		"trailer after a break": {Code: wire.CodeOriginAbort, Trailer: wire.Header{{Name: "A", Value: "b"}}},
		"cookie":                {Trailer: wire.Header{{Name: "Set-Cookie", Value: "a=b"}}},
		"credentials":           {Trailer: wire.Header{{Name: "authorization", Value: "x"}}},
		"words without a code":  {Message: "x"},
		"line break":            {Code: wire.CodeInternal, Message: "a\nb"},
	} {
		if err := e.Validate(); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownFrames(t *testing.T) {
	one := []byte{0x7f, 0, 0, 0, 3, 'a', 'b', 'c'}
	end := []byte{byte(wire.FrameEnd), 0, 0, 0, 0}
	probe := []byte{byte(wire.FrameProbe), 0, 0, 0, 0}
	read := func(b []byte) error {
		frame, err := wire.NewReader(bytes.NewReader(b)).Next()
		if err == nil && frame != wire.FrameEnd {
			t.Errorf("got %v", frame)
		}
		return err
	}
	must(t,
		read(append(bytes.Repeat(one, wire.MaxSkipped), end...)),
		read(append(bytes.Repeat(probe, 10*wire.MaxSkipped), end...)))
	for name, b := range map[string][]byte{
		"too many":          append(bytes.Repeat(one, wire.MaxSkipped+1), end...),
		"zero":              {0, 0, 0, 0, 0},
		"must be known":     {0x3f, 0, 0, 0, 0},
		"long":              {0x7f, 0, 1, 0, 1},
		"empty data":        {byte(wire.FrameData), 0, 0, 0, 0},
		"long data":         {byte(wire.FrameData), 0xff, 0xff, 0xff, 0xff},
		"probe with a load": {byte(wire.FrameProbe), 0, 0, 0, 1, 0},
	} {
		if err := read(b); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cut := 1; cut < len(one); cut++ {
		if err := read(one[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d: %v", cut, err)
		}
	}
}

func TestHeader(t *testing.T) {
	h := wire.Header{{Name: "Accept", Value: "a"}, {Name: "X", Value: "1"}, {Name: "accept", Value: "b"}}
	h.Add("Y", "2")
	if h.Get("ACCEPT") != "a" || h.Get("z") != "" || !h.Has("y") || h.Has("z") {
		t.Error("Get or Has")
	}
	if diff := cmp.Diff([]string{"a", "b"}, h.Values("accept")); diff != "" {
		t.Error(diff)
	}
	h.Del("ACCEPT")
	if diff := cmp.Diff(wire.Header{{Name: "X", Value: "1"}, {Name: "Y", Value: "2"}}, h); diff != "" {
		t.Error(diff)
	}
}
