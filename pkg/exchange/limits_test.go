package exchange_test

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// bench is two peers in memory: a fast link, and bulk links on which the receiver does with a continuation what the test says.
type bench struct {
	edge, connector tunnel.Link
	sending         *exchange.Moves
	receiving       *exchange.Moves
	bulk            []tunnel.Link // the sender's ends
	running         sync.WaitGroup
}

// take is what the receiver does with the n-th stream on one of its bulk links; the kind has not been read.
type take func(link, n int, s tunnel.Stream, table *exchange.Continuations)

func accepting(_, _ int, s tunnel.Stream, table *exchange.Continuations) {
	if _, err := wire.ReadKind(s); err == nil {
		_ = table.Accept(s)
	}
}

func newBench(t *testing.T, stripes int, threshold int64, takes take) *bench {
	memory := func(testing.TB) (tunnel.Link, tunnel.Link) { return exchangetest.Memory() }
	return newBenchOver(t, memory, memory, stripes, threshold, takes)
}

// newBenchOver is newBench over other links; each gives the receiver's end of a bulk link second.
func newBenchOver(t *testing.T, fast, bulk func(testing.TB) (_, _ tunnel.Link), stripes int, threshold int64, takes take) *bench {
	b := &bench{receiving: &exchange.Moves{Continuations: exchange.NewContinuations()}}
	b.edge, b.connector = fast(t)
	ends := []tunnel.Link{b.edge}
	ctx, cancel := context.WithCancel(context.Background())
	for i := range stripes {
		here, there := bulk(t)
		b.bulk, ends = append(b.bulk, here), append(ends, here)
		b.running.Go(func() {
			for n := 0; ; n++ {
				s, err := there.Accept(ctx)
				if err != nil {
					return
				}
				b.running.Go(func() { takes(i, n, s, b.receiving.Continuations) })
			}
		})
	}
	b.sending = &exchange.Moves{Lanes: to(b.bulk), Threshold: threshold}
	t.Cleanup(func() {
		for _, link := range ends {
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown})
		}
		cancel()
		b.running.Wait()
	})
	return b
}

// serve serves each exchange of the connector's link once may is closed.
func (b *bench) serve(may <-chan struct{}, moves *exchange.Moves, h handler) {
	b.running.Go(func() {
		for {
			s, err := b.connector.Accept(context.Background())
			if err != nil {
				return
			}
			b.running.Go(func() {
				<-may
				if _, err := wire.ReadKind(s); err == nil {
					_ = exchange.ServeMoving(context.Background(), s, h, moves)
				}
			})
		}
	})
}

func numbered(number int, length int64) wire.RequestHead {
	head := get()
	head.Method, head.Exchange, head.Generation, head.ContentLength = "POST", uint64(number), theGeneration, length
	return head
}

func now() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestManyUploadsBeforeTheirExchanges: a connector that is slow to begin exchanges loses none of their bodies, however many
// there are and though all of them were on their way before the first was asked for.
func TestManyUploadsBeforeTheirExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const exchanges = 300
		b := newBench(t, 3, exchangetest.AtOnce, accepting)
		begin := make(chan struct{})
		b.serve(begin, b.receiving, func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
			body, err := io.ReadAll(in.Body)
			if err != nil {
				out.Abort(exchange.Code(err), "")
				return
			}
			_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: int64(len(body))})
			_, _ = out.Write(body)
			_ = out.End(nil)
		})
		var all sync.WaitGroup
		for i := range exchanges {
			all.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, 1000+i)
				resp, err := exchange.Do(t.Context(), b.edge, &exchange.Request{
					Head: numbered(i+1, int64(len(body))), Body: bytes.NewReader(body), Moves: b.sending,
				})
				if err != nil {
					t.Errorf("exchange %d: %v", i, err)
					return
				}
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("exchange %d: %d bytes, %v", i, len(got), err)
				}
				_ = resp.Body.Close()
			})
		}
		synctest.Wait()
		close(begin)
		all.Wait()
	})
}

// download asks for an answer of unknown length that moves, pauses after the first bytes, and compares the rest.
func (b *bench) download(t *testing.T, size int, pause time.Duration) time.Duration {
	t.Helper()
	body := bytes.Repeat([]byte("sallyport"), size/9)
	b.serve(now(), b.sending, func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		_ = out.Head(wire.ResponseHead{Status: 200, ContentLength: -1})
		if _, err := out.Write(body); err == nil {
			_ = out.End(nil)
		}
	})
	start := time.Now()
	resp, err := exchange.Do(t.Context(), b.edge, &exchange.Request{Head: numbered(1, 0), Moves: b.receiving})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	digest := sha256.New()
	if _, err := io.CopyN(digest, resp.Body, 1000); err != nil {
		t.Fatal(err)
	}
	<-time.After(pause)
	if n, err := io.Copy(digest, resp.Body); err != nil || n != int64(len(body)-1000) {
		t.Errorf("%d of %d bytes: %v", n+1000, len(body), err)
	}
	if want := sha256.Sum256(body); !bytes.Equal(digest.Sum(nil), want[:]) {
		t.Error("other bytes came")
	}
	return time.Since(start)
}

// TestAReaderThatTakesItsTime: what came for a body waits until the body has been read up to where it moved.
func TestAReaderThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, 16<<10, accepting)
		b.download(t, 1<<20, 5*time.Minute)
	})
}

// TestABodyThatIsNotTakenStays where it is, whole: whatever limit the other side met, and on whichever of its streams.
func TestABodyThatIsNotTakenStays(t *testing.T) {
	for name, c := range map[string]struct {
		take   take
		within time.Duration
	}{
		"refused": {func(_, _ int, s tunnel.Stream, _ *exchange.Continuations) { s.Reset(tunnel.ResetRefused) }, quick},
		// Three times in 9 MiB it waits for the second that a move may take.
		"not noticed":      {func(int, int, tunnel.Stream, *exchange.Continuations) {}, 3*time.Second + quick},
		"answered":         {func(_, _ int, s tunnel.Stream, _ *exchange.Continuations) { _, _ = s.Write([]byte{1}) }, quick},
		"one stripe taken": {firstLink, quick},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 3, 16<<10, c.take)
				if took := b.download(t, 9<<20, 0); took > c.within {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

const quick = 100 * time.Millisecond

func firstLink(link, n int, s tunnel.Stream, table *exchange.Continuations) {
	if link > 0 {
		s.Reset(tunnel.ResetRefused)
		return
	}
	accepting(link, n, s, table)
}

// TestALaterAttempt: what was taken of an attempt that came to nothing is in nobody's way when the body moves after all.
func TestALaterAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := make(chan struct{}, 8)
		b := newBench(t, 3, 16<<10, func(link, n int, s tunnel.Stream, table *exchange.Continuations) {
			if n == 0 && link == 2 {
				s.Reset(tunnel.ResetRefused)
				return
			}
			accepting(link, n, s, table)
			taken <- struct{}{}
		})
		b.download(t, 9<<20, 0)
		if len(taken) != 2+3 {
			t.Errorf("%d streams were taken, want two of the first attempt and three of the second", len(taken))
		}
	})
}

// TestALostLinkIsToldAsSuch: a body is given up by more than one goroutine, and the receiver hears the one that knows why.
func TestALostLinkIsToldAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, exchangetest.AtOnce, accepting)
		read, ended := make(chan struct{}), make(chan error, 1)
		b.serve(now(), b.receiving, func(_ context.Context, in *exchange.Incoming, _ *exchange.Answer) {
			_, err := io.CopyN(io.Discard, in.Body, 1<<20)
			close(read)
			if err == nil {
				synctest.Wait() // the sender waits in its writes
				_, err = io.Copy(io.Discard, in.Body)
			}
			ended <- err
		})
		b.sending.Lanes = hesitant{b.sending.Lanes}
		go func() {
			<-read
			_ = b.bulk[2].Close(tunnel.Reason{Code: tunnel.ReasonLost})
		}()
		_, err := exchange.Do(t.Context(), b.edge, &exchange.Request{Head: numbered(1, -1), Body: zeros{}, Moves: b.sending})
		if exchange.Code(err) != wire.CodeTunnelDown {
			t.Errorf("the edge: %v", err)
		}
		if err := <-ended; exchange.Code(err) != wire.CodeTunnelDown {
			t.Errorf("the connector: %v", err)
		}
	})
}

// hesitant is lanes on which it takes a moment to say that a link was lost, and none to say anything else.
type hesitant struct{ exchange.Lanes }

func (h hesitant) Move(ctx context.Context) (*exchange.Move, error) {
	move, err := h.Lanes.Move(ctx)
	if err == nil {
		for i, s := range move.Streams {
			move.Streams[i] = slowToTell{s}
		}
	}
	return move, err
}

type slowToTell struct{ tunnel.Stream }

func (s slowToTell) Reset(code tunnel.ResetCode) {
	if code == tunnel.ResetTimeout {
		<-time.After(time.Millisecond)
	}
	s.Stream.Reset(code)
}
