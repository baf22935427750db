package exchange_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

type handler func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer)

func (h handler) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	h(ctx, in, out)
}

// serve serves one exchange of link and returns where its error will be.
func serve(t testing.TB, link tunnel.Link, h handler) <-chan error {
	left := make(chan error, 1)
	go func() {
		s, err := link.Accept(t.Context())
		if err == nil {
			_, err = wire.ReadKind(s)
		}
		if err == nil {
			err = exchange.Serve(t.Context(), s, h)
		}
		left <- err
	}()
	return left
}

func get() wire.RequestHead {
	return wire.RequestHead{Method: "GET", Scheme: "https", Host: "a.example", Path: "/"}
}

// TestHeldBack: what the handler wrote leaves by itself, and not before there was time for company.
func TestHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		goOn := make(chan struct{})
		left := serve(t, connector, func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
			_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
			_, _ = io.WriteString(out, "first")
			<-goOn
			_ = out.End(nil)
		})
		start := time.Now()
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{Head: get()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited == 0 || waited > 10*time.Millisecond {
			t.Errorf("held back for %v", waited)
		}
		close(goOn)
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		if err := <-left; err != nil {
			t.Error(err)
		}
	})
}

// TestSlowBodyDoesNotHoldTheHead: a client that is slow to send its body still gets an answer that does not need it.
func TestSlowBodyDoesNotHoldTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		left := serve(t, connector, func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
			_ = out.Head(wire.ResponseHead{Status: 401})
			_ = out.End(nil)
		})
		body, browser := io.Pipe()
		done := make(chan struct{})
		head := get()
		head.Method, head.ContentLength = "POST", 5
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{
			Head: head, Body: body, BodyDone: func() { close(done) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		if err := <-left; err != nil {
			t.Error(err)
		}
		_ = browser.Close()
		<-done
	})
}

// TestSilentPeer: a stream on which no head comes is given up.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		left := serve(t, connector, nil)
		s, err := edge.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := wire.WriteKind(s, wire.StreamExchange); err != nil {
			t.Fatal(err)
		}
		if err := <-left; err == nil {
			t.Error("served")
		}
		if waited := time.Since(start); waited > 15*time.Second {
			t.Errorf("after %v", waited)
		}
		var reset *tunnel.ResetError
		if _, err := s.Read(make([]byte, 1)); !errors.As(err, &reset) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAbortOfAnAnswerThatNobodyReads ends within seconds and is no end of a body to whoever reads late.
func TestAbortOfAnAnswerThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		aborted := make(chan time.Duration, 1)
		left := serve(t, connector, func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
			_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
			_ = out.Flush()
			synctest.Wait()
			// Two writes that fill the peer's window to the last byte.
			if _, err := out.Write(make([]byte, 2*(wire.WriteSize-wire.FrameHeaderSize))); err != nil {
				t.Error(err)
			}
			if err := out.Flush(); err != nil {
				t.Error(err)
			}
			start := time.Now()
			out.Abort(wire.CodeOriginAbort, "")
			aborted <- time.Since(start)
		})
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{Head: get()})
		if err != nil {
			t.Fatal(err)
		}
		if took := <-aborted; took == 0 || took > 15*time.Second {
			t.Errorf("Abort took %v", took)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("a broken answer reads like a whole one")
		}
		_ = resp.Body.Close()
		<-left
	})
}

// TestCancelIsFoundByProbe: nobody reads the request's body, and yet the handler learns that nobody waits.
func TestCancelIsFoundByProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		started := make(chan struct{})
		found := make(chan time.Duration, 1)
		left := serve(t, connector, func(ctx context.Context, _ *exchange.Incoming, _ *exchange.Answer) {
			close(started)
			start := time.Now()
			<-ctx.Done()
			found <- time.Since(start)
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-started
			cancel()
		}()
		head := get()
		head.Method, head.ContentLength = "POST", -1
		_, err := exchange.Do(ctx, edge, &exchange.Request{Head: head, Body: strings.NewReader(strings.Repeat("x", 1<<20))})
		if exchange.Code(err) != wire.CodeClientAbort {
			t.Errorf("Do: %v", err)
		}
		if after := <-found; after > 3*time.Second {
			t.Errorf("found after %v", after)
		}
		<-left
	})
}

// TestLongUpload: an answer that takes an hour to begin, with the request unfinished, is no fault.
func TestLongUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, connector := exchangetest.Memory()
		left := serve(t, connector, func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
			_, _ = io.Copy(io.Discard, in.Body)
			_ = out.Head(wire.ResponseHead{Status: 200})
			_ = out.End(nil)
		})
		body, browser := io.Pipe()
		go func() {
			for range 60 {
				_, _ = browser.Write([]byte("x"))
				<-time.After(time.Minute)
			}
			_ = browser.Close()
		}()
		head := get()
		head.Method, head.ContentLength = "POST", 60
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{Head: head, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		if err := <-left; err != nil {
			t.Error(err)
		}
	})
}
