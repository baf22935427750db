package quiclink_test

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// TestProbeNeverBlocks: who paces bulk by what a link shows is not held up by one that shows nothing any more.
func TestProbeNeverBlocks(t *testing.T) {
	linktest.Bubble(t, func(t *testing.T) {
		p := linktest.Make(inMemory).Admitted(t)
		s, err := p.Dialed.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Wire.Blackhole(linktest.Dialer)
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = s.Write(make([]byte, 1<<20)) // more than may be on its way
		}()
		<-time.After(time.Second)
		start := time.Now()
		for range 200 {
			p.Dialed.(tunnel.Measured).Probe()
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("200 probes took %v", took)
		}
		<-p.Dialed.Done()
		<-wrote
	})
}
