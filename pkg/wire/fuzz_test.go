package wire_test

import (
	"bufio"
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

// message is what every hand-coded message can do.
type message interface {
	Parse(b []byte) error
	Append(b []byte) []byte
	Validate() error
}

// fuzzMessage holds a hand-coded parser against the generated one: what ours accepts the generated one accepts too,
// with the same meaning, and it survives a round trip.
func fuzzMessage(f *testing.F, fresh func() message, generated proto.Message, seeds ...message) {
	for _, seed := range seeds {
		f.Add(seed.Append(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{0x62, 0x04, 0x0a, 0x02, 'X'})
	f.Add([]byte{0x0b, 0x0c, 0x0d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fresh()
		if err := m.Parse(b); err != nil {
			if !errors.Is(err, wire.ErrProtocol) {
				t.Fatalf("not a protocol error: %v", err)
			}
			return
		}
		if err := m.Validate(); err != nil {
			t.Fatalf("accepted, and not valid: %v", err)
		}
		again := fresh()
		if err := again.Parse(m.Append(nil)); err != nil {
			t.Fatalf("does not read what it wrote: %v", err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatal(diff)
		}
		theirs, ours := proto.Clone(generated), proto.Clone(generated)
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, theirs); err != nil {
			t.Fatalf("the generated code refuses it: %v", err)
		}
		if err := proto.Unmarshal(m.Append(nil), ours); err != nil {
			t.Fatalf("the generated code refuses what was written: %v", err)
		}
		if !proto.Equal(theirs, ours) {
			t.Fatalf("another meaning:\n%v\n%v", theirs, ours)
		}
	})
}

func FuzzRequestHead(f *testing.F) {
	h := request()
	up := wire.RequestHead{Method: "GET", Scheme: "http", Host: "a", Path: "/", Upgrade: "websocket"}
	fuzzMessage(f, func() message { return &wire.RequestHead{} }, &tunnelv1.RequestHead{}, &h, &up)
}

func FuzzResponseHead(f *testing.F) {
	h := response()
	fuzzMessage(f, func() message { return &wire.ResponseHead{} }, &tunnelv1.ResponseHead{}, &h,
		&wire.ResponseHead{Status: 101, Upgrade: "websocket"},
		&wire.ResponseHead{Status: 502, ErrorCode: wire.CodeOriginRefused, ContentLength: -1})
}

func FuzzInterim(f *testing.F) {
	fuzzMessage(f, func() message { return &wire.Interim{} }, &tunnelv1.Interim{},
		&wire.Interim{Status: 103, Header: wire.Header{{Name: "Link", Value: "</a>"}}})
}

func FuzzEnd(f *testing.F) {
	fuzzMessage(f, func() message { return &wire.End{} }, &tunnelv1.End{},
		&wire.End{Trailer: wire.Header{{Name: "Digest", Value: "x"}}},
		&wire.End{Code: wire.CodeOriginAbort, Message: "it broke off"})
}

func FuzzMoved(f *testing.F) {
	fuzzMessage(f, func() message { return &wire.Moved{} }, &tunnelv1.Moved{},
		&wire.Moved{Offset: 1 << 40, Lane: wire.LaneBulk, Stripes: 4})
}

func FuzzContinuation(f *testing.F) {
	fuzzMessage(f, func() message { return &wire.Continuation{} }, &tunnelv1.Continuation{},
		&wire.Continuation{Exchange: 7, Generation: 3, Offset: 9, Stripe: 2, Stripes: 4})
}

// FuzzFrames reads any bytes as a stream of frames: it ends in an error or io.EOF and never gives more than came in.
func FuzzFrames(f *testing.F) {
	var buf bytes.Buffer
	w := wire.NewWriter(&buf)
	q, p := request(), response()
	_, _ = w.Write([]byte("hello"))
	must(f, w.RequestHead(&q), w.ResponseHead(&p), w.Interim(&wire.Interim{Status: 103}), w.End(&wire.End{}),
		w.Segment(1<<40, []byte("hello")), w.Segment(5, nil), w.Flush())
	f.Add(buf.Bytes())
	f.Add([]byte{0x7f, 0, 0, 0, 1, 1, byte(wire.FrameEnd), 0, 0, 0, 0})
	f.Add([]byte{byte(wire.FrameSegment), 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7})
	f.Add([]byte{byte(wire.FrameData), 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReader(bytes.NewReader(b))
		total := 0
		for {
			frame, err := r.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, wire.ErrProtocol) {
					t.Fatalf("%v", err)
				}
				return
			}
			switch frame {
			case wire.FrameData, wire.FrameSegment:
				if frame == wire.FrameSegment && r.Rest() > wire.MaxData {
					t.Fatalf("a segment of %d bytes", r.Rest())
				}
				n, _ := io.Copy(io.Discard, r)
				if total += int(n); total > len(b) {
					t.Fatalf("%d bytes out of %d", total, len(b))
				}
			case wire.FrameRequestHead:
				_, _ = r.RequestHead()
			case wire.FrameResponseHead:
				_, _ = r.ResponseHead()
			case wire.FrameEnd:
				_, _ = r.End()
			}
		}
	})
}

func FuzzControl(f *testing.F) {
	var buf bytes.Buffer
	must(f, wire.WriteControl(&buf, hello()))
	f.Add(buf.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			m, err := wire.ReadControl(r, wire.MaxControlHeld)
			if err != nil {
				return
			}
			must(t, wire.WriteControl(io.Discard, m))
		}
	})
}

func FuzzPeer(f *testing.F) {
	var buf bytes.Buffer
	must(f, wire.WritePeer(&buf, &tunnelv1.PeerControl{Message: &tunnelv1.PeerControl_Holdings{Holdings: &tunnelv1.PeerHoldings{
		Version: 3, Full: true, Holdings: []*tunnelv1.PeerHolding{{Tenant: "maple", Links: 2}},
	}}}))
	f.Add(buf.Bytes())
	f.Add([]byte{0x03, 0x12, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			m, err := wire.ReadPeer(r, wire.MaxControlHeld)
			if err != nil {
				return
			}
			must(t, wire.WritePeer(io.Discard, m))
		}
	})
}

func BenchmarkRequestHead(b *testing.B) {
	var buf bytes.Buffer
	w, r := wire.NewWriter(&buf), wire.NewReader(&buf)
	q := request()
	q.Assertion, q.OriginAssertion = strings.Repeat("eyJhbGciOiJFZERTQSJ9", 35), strings.Repeat("eyJhbGciOiJFZERTQSJ9", 30)
	q.TrailerNames, q.Header = nil, wire.Header{
		{Name: "Accept", Value: "text/html"},
		{Name: "Accept-Language", Value: "en-CA"},
		{Name: "Cookie", Value: "JSESSIONID=0123456789ABCDEF0123456789ABCDEF"},
		{Name: "Referer", Value: "https://oscar.maple.localhost:8443/oscar/provider/providercontrol.jsp"},
		{Name: "Sec-Fetch-Dest", Value: "document"},
		{Name: "Sec-Fetch-Mode", Value: "navigate"},
		{Name: "Sec-Fetch-Site", Value: "same-origin"},
		{Name: "User-Agent", Value: "Mozilla/5.0 (X11; Linux x86_64)"},
	}
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		must(b, w.RequestHead(&q), w.Flush())
		r.Reset(&buf)
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
		if _, err := r.RequestHead(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkData(b *testing.B) {
	var buf bytes.Buffer
	w, r := wire.NewWriter(&buf), wire.NewReader(&buf)
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if _, err := w.Write(p); err != nil {
			b.Fatal(err)
		}
		must(b, w.Flush())
		r.Reset(&buf)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
			if _, err := io.ReadFull(r, p[:min(len(p), wire.WriteSize)]); err == nil {
				continue
			}
		}
	}
}
