package connector_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// holding is what this process holds.
type holding struct {
	goroutines, files int
	heap              uint64
}

func holdingNow(t *testing.T) holding {
	t.Helper()
	runtime.GC()
	runtime.GC() // what finalizers let go of
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return holding{goroutines: runtime.NumGoroutine(), files: len(files), heap: m.HeapAlloc}
}

// reconnect cuts all links n times over and waits for new ones each time.
func reconnect(t *testing.T, e *testEdge, c *clinic, n int) {
	t.Helper()
	for range n {
		for _, link := range e.open() {
			_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "cut by a test"})
		}
		for deadline := time.Now().Add(time.Minute); len(e.registry.Members("maple")) < 2 || len(e.open()) < 2; c.Hasten() {
			if time.Now().After(deadline) {
				t.Fatal("not linked again")
			}
			<-time.After(time.Millisecond)
		}
	}
}

// A thousand reconnects, half over QUIC and half over WebSocket, leave nothing behind on either side.
func TestThousandReconnectsLeaveNothingBehind(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto)
	e.members(t, 2)
	reconnect(t, e, c, 20) // what is made once is there
	before := holdingNow(t)
	reconnect(t, e, c, 500)
	var after holding
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		after = holdingNow(t)
		if after.goroutines <= before.goroutines+30 && after.files <= before.files+10 && after.heap <= before.heap+4<<20 {
			t.Logf("before %+v, after %+v", before, after)
			return
		}
	}
	t.Errorf("before %+v, after 1,000 reconnects %+v", before, after)
}
