package exchange_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// own is a body that holds one exchange's number in each of its eight-byte words, so that bytes of another one show.
type own struct {
	number uint64
	at, n  int
	broken bool // ends with an error instead of io.EOF
	slow   bool // comes in small pieces
}

var errBroken = errors.New("the body broke off")

func (o *own) Read(p []byte) (int, error) {
	if o.at == o.n {
		if o.broken {
			return 0, errBroken
		}
		return 0, io.EOF
	}
	if o.slow {
		p = p[:min(len(p), 1+o.at%777)]
	}
	var word [8]byte
	binary.BigEndian.PutUint64(word[:], o.number)
	n := min(len(p), o.n-o.at)
	for i := range n {
		p[i] = word[(o.at+i)%8]
	}
	o.at += n
	return n, nil
}

// check reports the first foreign byte of b, which begins at offset at.
func (o *own) check(b []byte) error {
	var word [8]byte
	binary.BigEndian.PutUint64(word[:], o.number)
	for i := range b {
		if b[i] != word[(o.at+i)%8] {
			return fmt.Errorf("exchange %x: byte %d of another exchange: %x", o.number, o.at+i, b[max(0, i-8):min(len(b), i+24)])
		}
	}
	o.at += len(b)
	return nil
}

// drain reads r to its end, or for limit bytes, and judges every byte.
func (o *own) drain(r io.Reader, limit int) (foreign, err error) {
	buf := make([]byte, 3000)
	for o.at < limit {
		n, err := r.Read(buf[:min(len(buf), limit-o.at)])
		if foreign := o.check(buf[:n]); foreign != nil {
			return foreign, err
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// What one exchange of the test below does; each is chosen for many of them.
const (
	whole        = iota // both bodies, to their ends
	early               // an answer before the request is read
	abortAnswer         // the handler gives up in the middle
	straggler           // a goroutine of the handler goes on using the answer and the request after it has returned
	breakRequest        // the request's body fails
	cancelled           // the edge's context ends in the middle
	closedEarly         // the answer is closed before its end
	upgraded            // bytes both ways
	upgradeCut          // an upgraded connection that one side drops
	silent              // the handler returns without an answer
	behaviours
)

// TestNoForeignBytes runs many exchanges at a time that end in every way there is, each with bytes of its own, over readers,
// writers and chunks that they lend each other.
func TestNoForeignBytes(t *testing.T) {
	for name, links := range map[string]func(testing.TB) (edge, connector tunnel.Link){
		"memory":    func(testing.TB) (tunnel.Link, tunnel.Link) { return exchangetest.Memory() },
		"quic":      overQUIC,
		"websocket": overWebSocket,
	} {
		t.Run(name, func(t *testing.T) {
			edge, connector := links(t)
			s := &stress{t: t, edge: edge}
			ctx, cancel := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			serving.Go(func() { s.serve(ctx, connector) })
			var asking sync.WaitGroup
			for worker := range 24 {
				asking.Go(func() {
					rnd := rand.New(rand.NewPCG(1, uint64(worker)))
					for i := range 40 {
						s.ask(uint64(worker+1)<<32|uint64(i+1), rnd)
					}
				})
			}
			asking.Wait()
			_ = edge.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
			cancel()
			serving.Wait()
			s.stragglers.Wait()
		})
	}
}

type stress struct {
	t          *testing.T
	edge       tunnel.Link
	stragglers sync.WaitGroup
}

func (s *stress) foreign(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *stress) serve(ctx context.Context, connector tunnel.Link) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		stream, err := connector.Accept(ctx)
		if err != nil {
			return
		}
		running.Go(func() {
			if kind, err := wire.ReadKind(stream); err != nil || kind != wire.StreamExchange {
				stream.Reset(tunnel.ResetProtocol)
				return
			}
			_ = exchange.Serve(ctx, stream, s)
		})
	}
}

// ServeExchange does what the request's fields ask for.
func (s *stress) ServeExchange(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
	number := in.Head.Exchange
	if id := in.Head.Header.Get("X-Number"); id != strconv.FormatUint(number, 16) {
		s.t.Errorf("exchange %x has the head of %q", number, id)
	}
	behaviour, _ := strconv.Atoi(in.Head.Header.Get("X-Do"))
	size, _ := strconv.Atoi(in.Head.Header.Get("X-Size"))
	if in.Head.Upgrade != "" {
		s.serveUpgrade(in, out, behaviour, size)
		return
	}
	if behaviour == silent {
		return
	}
	if behaviour != early && behaviour != straggler {
		foreign, err := (&own{number: number}).drain(in.Body, 1<<30)
		s.foreign(foreign)
		if err != io.EOF {
			out.Abort(wire.CodeClientAbort, "")
			return
		}
	}
	head := wire.ResponseHead{Status: 200, ContentLength: int64(size), Header: wire.Header{{Name: "X-Number", Value: in.Head.Header.Get("X-Number")}}}
	if number%2 == 0 {
		head.ContentLength = -1
	}
	if out.Head(head) != nil {
		return
	}
	body := &own{number: number, n: size, slow: number%3 == 0}
	switch behaviour {
	case abortAnswer:
		_, _ = io.CopyN(out, body, int64(size/2))
		out.Abort(wire.CodeOriginAbort, "")
		return
	case straggler:
		s.stragglers.Go(func() { _, _ = out.ReadFrom(&own{number: number, n: size}) })
		s.stragglers.Go(func() { foreign, _ := (&own{number: number}).drain(in.Body, 1<<30); s.foreign(foreign) })
		_, _ = out.Write([]byte{})
		return
	}
	if _, err := io.Copy(out, body); err == nil {
		_ = out.End(wire.Header{{Name: "X-Number", Value: in.Head.Header.Get("X-Number")}})
	}
}

func (s *stress) serveUpgrade(in *exchange.Incoming, out *exchange.Answer, behaviour, size int) {
	conn, err := out.Upgrade(wire.ResponseHead{Status: 101, Upgrade: in.Head.Upgrade})
	if err != nil {
		return
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = io.Copy(conn, &own{number: in.Head.Exchange, n: size})
		_ = conn.CloseWrite()
	})
	limit := 1 << 30
	if behaviour == upgradeCut {
		limit = size / 2
	}
	foreign, _ := (&own{number: in.Head.Exchange}).drain(conn, limit)
	s.foreign(foreign)
	if behaviour == upgradeCut {
		_ = conn.Close()
	}
	writing.Wait()
	_ = conn.Close()
}

func (s *stress) ask(number uint64, rnd *rand.Rand) {
	behaviour, size := rnd.IntN(behaviours), rnd.IntN(1<<(6+rnd.IntN(12)))
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	text := strconv.FormatUint(number, 16)
	head := wire.RequestHead{
		Exchange: number, RequestID: "r" + text, Tenant: "maple", Site: "main", App: "oscar", Method: "POST", Scheme: "https",
		Host: "oscar.maple.localhost", Path: "/oscar/x", ContentLength: int64(size), Header: wire.Header{
			{Name: "X-Number", Value: text},
			{Name: "X-Do", Value: strconv.Itoa(behaviour)},
			{Name: "X-Size", Value: strconv.Itoa(size)},
			{Name: "X-Pad", Value: string(bytes.Repeat([]byte{'a' + byte(number%26)}, rnd.IntN(5000)))},
		},
	}
	done := make(chan struct{})
	req := &exchange.Request{Head: head, Body: &own{number: number, n: size, broken: behaviour == breakRequest, slow: number%5 == 0}, BodyDone: func() { close(done) }}
	if behaviour == upgraded || behaviour == upgradeCut {
		req.Head.Upgrade, req.Head.ContentLength, req.Head.Method, req.Body, req.BodyDone = "websocket", 0, "GET", nil, nil
		close(done)
	} else if number%2 == 1 {
		req.Head.ContentLength = -1
	}
	if behaviour == cancelled {
		time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, cancel)
	}
	resp, err := exchange.Do(ctx, s.edge, req)
	if err != nil {
		if behaviour == whole || behaviour == upgraded || behaviour == early || behaviour == closedEarly {
			s.t.Errorf("behaviour %d: %v", behaviour, err)
		}
		<-done
		return
	}
	s.judge(resp, number, behaviour, size)
	_ = resp.Body.Close()
	<-done
}

func (s *stress) judge(resp *exchange.Response, number uint64, behaviour, size int) {
	text := strconv.FormatUint(number, 16)
	if conn, ok := resp.Upgraded(); ok {
		var writing sync.WaitGroup
		writing.Go(func() {
			_, _ = io.Copy(conn, &own{number: number, n: size})
			_ = conn.CloseWrite()
		})
		defer writing.Wait()
	} else if got := resp.Head.Header.Get("X-Number"); got != text {
		s.t.Errorf("exchange %s got the head of %q", text, got)
	}
	limit := 1 << 30
	if behaviour == closedEarly {
		limit = size / 3
	}
	got := &own{number: number}
	foreign, err := got.drain(resp.Body, limit)
	s.foreign(foreign)
	switch behaviour {
	case whole, upgraded, early:
		if err != io.EOF || got.at != size {
			s.t.Errorf("behaviour %d: %d of %d bytes: %v", behaviour, got.at, size, err)
		}
	case abortAnswer, straggler:
		if err == io.EOF {
			s.t.Errorf("behaviour %d: an answer that broke off after %d of %d bytes passed for whole", behaviour, got.at, size)
		}
	}
	if err == io.EOF && resp.Head.Status == 200 && resp.Trailer().Get("X-Number") != text {
		s.t.Errorf("exchange %s got the trailer of %q", text, resp.Trailer().Get("X-Number"))
	}
}
