package wslink_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// Who reads a link's first stream is roused by each thing that Read would return, and by nothing else.
func TestRouse(t *testing.T) {
	for name, end := range map[string]func(p *linktest.Pair, s tunnel.Stream){
		"end of bytes":    func(_ *linktest.Pair, s tunnel.Stream) { _ = s.CloseWrite() },
		"reset":           func(_ *linktest.Pair, s tunnel.Stream) { s.Reset(tunnel.ResetCancelled) },
		"end of the link": func(p *linktest.Pair, _ tunnel.Stream) { _ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye}) },
	} {
		t.Run(name, func(t *testing.T) {
			linktest.Bubble(t, func(t *testing.T) { testRouse(t, end) })
		})
	}
}

func testRouse(t *testing.T, end func(*linktest.Pair, tunnel.Stream)) {
	p := linktest.Make(inMemory).Admitted(t)
	theirs, ours := openStream(t, p)
	var roused atomic.Int64
	rouse := func() bool { return ours.(tunnel.Rousing).Rouse(func() { roused.Add(1) }) }
	want := func(n int64, why string) {
		t.Helper()
		<-time.After(time.Second) // the network takes its time
		synctest.Wait()
		if got := roused.Load(); got != n {
			t.Fatalf("%s: roused %d times, want %d", why, got, n)
		}
	}
	buf := make([]byte, 8)
	read := func() {
		t.Helper()
		if _, err := io.ReadAtLeast(ours, buf, 1); err != nil {
			t.Fatal(err)
		}
	}
	if !rouse() {
		t.Fatal("the first stream cannot rouse")
	}
	want(1, "a byte is there")
	read()
	rouse()
	want(1, "nothing is there")
	_, _ = theirs.Write([]byte("more"))
	want(2, "more came")
	rouse()
	want(3, "it was not read")
	read()
	_, other := openStream(t, p)
	if rouse(); other.(tunnel.Rousing).Rouse(func() { roused.Add(1) }) {
		t.Fatal("another stream claims to rouse")
	}
	want(3, "another stream's bytes came")
	end(p, theirs)
	want(4, "it ended")
}

func openStream(t *testing.T, p *linktest.Pair) (dialed, accepted tunnel.Stream) {
	t.Helper()
	dialed, err := p.Dialed.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialed.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if accepted, err = p.Accepted.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}
