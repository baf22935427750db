package quiclink_test

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// TestFirstBytesWaitForNobody: those who open streams at the same time write for each other, so that none of them may have to wait: not
// for a peer that is not there any more, and not behind a body for which there is no room.
func TestFirstBytesWaitForNobody(t *testing.T) {
	linktest.Bubble(t, func(t *testing.T) {
		p := linktest.Make(inMemory).Admitted(t)
		body, err := p.Dialed.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Wire.Blackhole(linktest.Dialer)
		var wrote sync.WaitGroup
		wrote.Go(func() {
			_, _ = body.Write(make([]byte, 1<<20)) // more than may be on its way
		})
		<-time.After(time.Second)
		start := time.Now()
		var first sync.WaitGroup
		for range 50 {
			first.Go(func() {
				s, err := p.Dialed.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := s.Write(make([]byte, 1452)); n != 1452 || err != nil {
					t.Errorf("wrote %d bytes, %v", n, err)
				}
			})
		}
		first.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("the first bytes of 50 streams took %v", took)
		}
		<-p.Dialed.Done()
		wrote.Wait()
	})
}

// TestEachGetsItsOwn: of many who write at the same time each has its own bytes arrive, and learns what became of those.
func TestEachGetsItsOwn(t *testing.T) {
	p := linktest.Make(overUDP).Admitted(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const streams = 200 // fewer than the listening side takes
	arrived := make(chan [2]int, streams)
	go func() {
		for {
			s, err := p.Accepted.Accept(ctx)
			if err != nil {
				return
			}
			go func() {
				all, err := io.ReadAll(s)
				if err != nil || len(all) < 4 {
					return // one that was reset
				}
				arrived <- [2]int{int(binary.BigEndian.Uint32(all)), len(all)}
			}()
		}
	}()
	size := func(i int) int { return 4 + i }
	var all sync.WaitGroup
	for worker := range 20 {
		all.Go(func() {
			for i := worker * 10; i < worker*10+10; i++ {
				s, err := p.Dialed.Open(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				given := binary.BigEndian.AppendUint32(make([]byte, 0, size(i)), uint32(i))[:size(i)]
				if i%7 == 3 {
					s.Reset(tunnel.ResetCancelled)
					if _, err := s.Write(given); err == nil {
						t.Errorf("stream %d: written after its reset", i)
					}
					continue
				}
				if n, err := s.Write(given); n != len(given) || err != nil {
					t.Errorf("stream %d: wrote %d of %d bytes, %v", i, n, len(given), err)
				}
				if err := s.CloseWrite(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range streams {
		if i%7 == 3 {
			continue
		}
		select {
		case got := <-arrived:
			if got[1] != size(got[0]) {
				t.Errorf("stream %d came with %d bytes", got[0], got[1])
			}
		case <-time.After(30 * time.Second):
			t.Fatal("some streams do not come whole")
		}
	}
}
