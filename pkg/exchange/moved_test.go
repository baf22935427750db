package exchange_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

const (
	theExchange   = 1
	theGeneration = 2
)

// rogue is a peer that writes an upload by hand: the own stream on one link, continuations on another.
type rogue struct {
	t        testing.TB
	edge     tunnel.Link
	bulk     tunnel.Link
	table    *exchange.Continuations
	got      bytes.Buffer // what the handler read
	readErr  error
	finished <-chan error
	own      tunnel.Stream
	closing  func()
}

func newRogue(t testing.TB) *rogue {
	r := &rogue{t: t, table: exchange.NewContinuations()}
	edge, connector := exchangetest.Memory()
	bulk, accepting := exchangetest.Memory()
	r.edge, r.bulk = edge, bulk
	finished := make(chan error, 1)
	r.finished = finished
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := accepting.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() {
				if kind, err := wire.ReadKind(s); err == nil && kind == wire.StreamContinuation {
					_ = r.table.Accept(s)
				}
			})
		}
	})
	running.Go(func() {
		s, err := connector.Accept(ctx)
		if err == nil {
			_, err = wire.ReadKind(s)
		}
		if err == nil {
			err = exchange.ServeMoving(ctx, s, handler(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
				_, r.readErr = r.got.ReadFrom(in.Body)
				_ = out.Head(wire.ResponseHead{Status: 204})
				_ = out.End(nil)
			}), &exchange.Moves{Continuations: r.table})
		}
		finished <- err
	})
	r.closing = func() {
		_ = edge.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		_ = bulk.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		cancel()
		running.Wait()
	}
	return r
}

// move opens the exchange and says that its body has moved.
func (r *rogue) move(length int64, m wire.Moved) {
	head := get()
	head.Method, head.ContentLength, head.Exchange, head.Generation = "POST", length, theExchange, theGeneration
	s, err := r.edge.Open(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	r.own = s
	w := wire.NewWriter(s)
	w.Kind(wire.StreamExchange)
	if err := errors.Join(w.RequestHead(&head), w.Moved(&m), w.Flush()); err != nil {
		r.t.Fatal(err)
	}
}

// stripe opens a continuation.
func (r *rogue) stripe(c wire.Continuation) (tunnel.Stream, *wire.Writer) {
	s, err := r.bulk.Open(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	w := wire.NewWriter(s)
	w.Kind(wire.StreamContinuation)
	if err := errors.Join(w.Continuation(&c), w.Flush()); err != nil {
		r.t.Fatal(err)
	}
	return s, w
}

func of(stripe, stripes uint32) wire.Continuation {
	return wire.Continuation{Exchange: theExchange, Generation: theGeneration, Stripe: stripe, Stripes: stripes}
}

// piece is a segment, or with end the end frame.
type piece struct {
	stripe int
	at     uint64
	data   string
	end    bool
}

// play sends pieces in this order, FINs the stripes, and returns how the handler's reading ended.
func (r *rogue) play(length int64, stripes int, pieces []piece) error {
	defer r.closing()
	r.move(length, wire.Moved{Lane: wire.LaneBulk, Stripes: uint32(stripes)})
	streams, writers := make([]tunnel.Stream, stripes), make([]*wire.Writer, stripes)
	for i := range stripes {
		streams[i], writers[i] = r.stripe(of(uint32(i), uint32(stripes)))
	}
	for _, p := range pieces {
		w := writers[p.stripe]
		if p.end {
			_ = w.End(&wire.End{})
		} else {
			_ = w.Segment(p.at, []byte(p.data))
		}
		_ = w.Flush() // the reset may come while it runs
	}
	for _, s := range streams {
		_ = s.CloseWrite()
	}
	_ = r.own.CloseWrite()
	_, _ = io.Copy(io.Discard, r.own)
	<-r.finished
	return r.readErr
}

// TestSegmentsThatDoNotFit: whatever is wrong with a moved body, it does not read like a whole one.
func TestSegmentsThatDoNotFit(t *testing.T) {
	end := []piece{{0, 10, "", false}, {0, 0, "", true}}
	for name, c := range map[string]struct {
		length  int64
		stripes int
		pieces  []piece
		whole   bool
	}{
		"whole":                   {10, 1, append([]piece{{0, 0, "0123456789", false}}, end...), true},
		"whole, unknown length":   {-1, 1, append([]piece{{0, 0, "0123456789", false}}, end...), true},
		"two stripes":             {10, 2, append([]piece{{1, 5, "56789", false}, {0, 0, "01234", false}}, end...), true},
		"a gap":                   {10, 1, append([]piece{{0, 0, "01234", false}, {0, 6, "6789", false}}, end...), false},
		"a gap over stripes":      {10, 2, append([]piece{{0, 0, "01234", false}, {1, 6, "6789", false}}, end...), false},
		"an overlap":              {-1, 1, append([]piece{{0, 0, "012345", false}, {0, 5, "56789", false}}, end...), false},
		"an overlap over stripes": {-1, 2, append([]piece{{0, 0, "012345", false}, {1, 5, "56789", false}}, end...), false},
		"the same twice":          {-1, 2, append([]piece{{0, 0, "01234", false}, {1, 0, "01234", false}}, end...), false},
		"backwards":               {-1, 1, append([]piece{{0, 5, "56789", false}, {0, 0, "01234", false}}, end...), false},
		"longer than declared":    {9, 1, append([]piece{{0, 0, "0123456789", false}}, end...), false},
		"shorter than declared":   {11, 1, append([]piece{{0, 0, "0123456789", false}}, end...), false},
		"total too large":         {-1, 1, []piece{{0, 0, "01234", false}, {0, 10, "", false}, {0, 0, "", true}}, false},
		"total too small":         {-1, 1, []piece{{0, 0, "01234", false}, {0, 3, "", false}, {0, 0, "", true}}, false},
		"no total":                {5, 1, []piece{{0, 0, "01234", false}, {0, 0, "", true}}, false},
		"no end":                  {10, 1, []piece{{0, 0, "0123456789", false}, {0, 10, "", false}}, false},
		"nothing after a part":    {10, 1, []piece{{0, 0, "01234", false}}, false},
		"end on another stripe":   {10, 2, []piece{{0, 0, "0123456789", false}, {1, 10, "", false}, {1, 0, "", true}}, false},
		"more after the end":      {-1, 1, append([]piece{{0, 0, "0123456789", false}}, append(end, piece{0, 10, "x", false})...), false},
		"more on another stripe":  {-1, 2, append([]piece{{0, 0, "0123456789", false}, {1, 10, "x", false}}, end...), false},
		"far beyond":              {-1, 2, append([]piece{{1, 1 << 63, "x", false}, {0, 0, "0123456789", false}}, end...), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRogue(t)
			err := r.play(c.length, c.stripes, c.pieces)
			switch {
			case c.whole && (err != nil || r.got.String() != "0123456789"):
				t.Errorf("%q, %v", r.got.String(), err)
			case !c.whole && exchange.Code(err) != wire.CodeProtocol:
				t.Errorf("%q read, then %v, want %s", r.got.String(), err, wire.CodeProtocol)
			}
		})
	}
}

// FuzzSegments plays any segments in any order over three stripes: what reads as whole is byte for byte [0, total), where
// each byte tells its place.
func FuzzSegments(f *testing.F) {
	f.Add([]byte{0, 0, 4, 1, 4, 4, 2, 8, 4, 0, 12, 0, 3}, int8(-1))
	f.Add([]byte{2, 8, 4, 1, 4, 4, 0, 0, 4, 0, 12, 0, 3}, int8(12))
	f.Add([]byte{0, 0, 4, 0, 4, 0, 3}, int8(4))
	f.Add([]byte{0, 0, 4, 1, 3, 4, 0, 8, 0, 3}, int8(-1))
	f.Fuzz(func(t *testing.T, script []byte, length int8) {
		var pieces []piece
		for len(script) > 0 && len(pieces) < 24 {
			if script[0]%4 == 3 || len(script) < 3 {
				pieces, script = append(pieces, piece{end: true}), script[1:]
				continue
			}
			data := make([]byte, script[2]%16)
			for i := range data {
				data[i] = script[1] + byte(i)
			}
			pieces = append(pieces, piece{stripe: int(script[0] % 4), at: uint64(script[1]), data: string(data)})
			script = script[3:]
		}
		r := newRogue(t)
		if err := r.play(max(int64(length), -1), 3, pieces); err != nil {
			return
		}
		for i, b := range r.got.Bytes() {
			if b != byte(i) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		if length >= 0 && r.got.Len() != int(length) {
			t.Fatalf("%d bytes pass for %d", r.got.Len(), length)
		}
	})
}

// TestRendezvous: who waits for the other side does so for 10 s, whichever it is, and then lets go.
func TestRendezvous(t *testing.T) {
	t.Run("a body without its continuation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRogue(t)
			defer r.closing()
			start := time.Now()
			r.move(5, wire.Moved{Lane: wire.LaneBulk, Stripes: 2})
			r.stripe(of(0, 2))
			var reset *tunnel.ResetError
			if _, err := io.Copy(io.Discard, r.own); !errors.As(err, &reset) {
				t.Errorf("the exchange ended with %v", err)
			}
			if waited := time.Since(start); waited < 9*time.Second || waited > 11*time.Second {
				t.Errorf("after %v", waited)
			}
			<-r.finished
			if exchange.Code(r.readErr) != wire.CodeTunnelDown {
				t.Errorf("%v", r.readErr)
			}
		})
	})
	t.Run("a continuation that nobody asked for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRogue(t)
			defer r.closing()
			start := time.Now()
			s, _ := r.stripe(of(0, 1))
			wantReset(t, s, tunnel.ResetTimeout)
			if waited := time.Since(start); waited < 9*time.Second || waited > 11*time.Second {
				t.Errorf("after %v", waited)
			}
		})
	})
	t.Run("the continuation first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRogue(t)
			defer r.closing()
			s, w := r.stripe(of(0, 1))
			if err := errors.Join(w.Segment(0, []byte("early")), w.Segment(5, nil), w.End(&wire.End{}), w.Flush(), s.CloseWrite()); err != nil {
				t.Fatal(err)
			}
			<-time.After(9 * time.Second)
			r.move(5, wire.Moved{Lane: wire.LaneBulk, Stripes: 1})
			_ = r.own.CloseWrite()
			_, _ = io.Copy(io.Discard, r.own)
			if err := <-r.finished; err != nil || r.got.String() != "early" {
				t.Errorf("%q, %v", r.got.String(), err)
			}
		})
	})
}

// TestContinuationsThatAreNotWanted are reset, and the body that they claim goes on.
func TestContinuationsThatAreNotWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t)
		defer r.closing()
		s, w := r.stripe(of(0, 1))
		synctest.Wait()
		for name, c := range map[string]wire.Continuation{
			"the same stripe again": of(0, 1),
			"another count":         of(1, 2),
		} {
			second, _ := r.stripe(c)
			t.Log(name)
			wantReset(t, second, tunnel.ResetRefused)
		}
		r.move(5, wire.Moved{Lane: wire.LaneBulk, Stripes: 1})
		if err := errors.Join(w.Segment(0, []byte("right")), w.Segment(5, nil), w.End(&wire.End{}), w.Flush(), s.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		_ = r.own.CloseWrite()
		_, _ = io.Copy(io.Discard, r.own)
		if err := <-r.finished; err != nil || r.got.String() != "right" {
			t.Errorf("%q, %v", r.got.String(), err)
		}
	})
}

// TestContinuationsAreBounded: a peer that opens them without end is refused, and what it opened goes after 10 s.
func TestContinuationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t)
		defer r.closing()
		const limit = 512
		for i := range limit {
			c := of(0, 1)
			c.Exchange = uint64(i + 10)
			r.stripe(c)
		}
		synctest.Wait()
		c := of(0, 1)
		c.Exchange = 9
		over, _ := r.stripe(c)
		wantReset(t, over, tunnel.ResetRefused)
		<-time.After(11 * time.Second)
		again, _ := r.stripe(c)
		wantReset(t, again, tunnel.ResetTimeout) // it was taken
	})
}

func wantReset(t *testing.T, s tunnel.Stream, code tunnel.ResetCode) {
	t.Helper()
	_, err := io.Copy(io.Discard, s)
	if err == nil { // the FIN of a receiver that has taken it came first
		for err == nil {
			_, err = s.Write(binary.BigEndian.AppendUint64(nil, 0))
			synctest.Wait()
			if err == nil {
				<-time.After(time.Second)
			}
		}
	}
	var reset *tunnel.ResetError
	if !errors.As(err, &reset) || reset.Code != code || !reset.Remote {
		t.Errorf("got %v, want a reset with %v", err, code)
	}
}
