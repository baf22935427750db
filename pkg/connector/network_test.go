package connector

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func TestSleepShowsInTheClocks(t *testing.T) {
	before := time.Now()
	for ahead, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 0, 5*time.Second - 1: 0, 5 * time.Second: 5 * time.Second, 8 * time.Hour: 8 * time.Hour, -time.Hour: 0,
	} {
		if got := sleptFor(ahead+time.Second, time.Second); got != want {
			t.Errorf("%v ahead: slept for %v, want %v", ahead, got, want)
		}
	}
	if got := slept(before, time.Now()); got != 0 {
		t.Errorf("awake, and slept for %v", got)
	}
}

func quietLinks() *links {
	return &links{dials: newDials("test"), logger: zap.NewNop(), attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"lane", "result"})}
}

// failing is a lane whose dials fail with err.
func failing(t *testing.T, err func() error) (l *lane, dials func() int, run func()) {
	var mu sync.Mutex
	n := 0
	links := quietLinks()
	l = newLane(links, tunnelv1.Lane_LANE_FAST, func(context.Context) (tunnel.Link, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return nil, err()
	}, defaultShrinking())
	links.lanes = []*lane{l}
	dials = func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
	return l, dials, func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-done
		})
	}
}

func TestNetworkThatComesBackIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dials, run := failing(t, func() error { return errors.New("no route to host") })
		run()
		<-time.After(10 * time.Minute)
		for range 20 {
			synctest.Wait()
			before := dials()
			l.networkChanged(time.Now(), func(netip.Addr, bool) bool { return false })
			synctest.Wait()
			if got := dials(); got != before+1 {
				t.Errorf("%d dials at once, want 1", got-before)
			}
			<-time.After(time.Minute)
		}
	})
}

// An edge that says when to come again is not asked sooner, whatever the network does.
func TestRetryAfterIsObeyedOverAChangeOfNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dials, run := failing(t, func() error {
			return &controlclient.RefusedError{Code: tunnel.ReasonRefused, RetryAfter: 90 * time.Second}
		})
		run()
		synctest.Wait()
		for range 89 {
			l.networkChanged(time.Now(), func(netip.Addr, bool) bool { return false })
			<-time.After(time.Second)
		}
		synctest.Wait()
		if got := dials(); got != 1 {
			t.Errorf("%d dials within 89 s of an edge that asked for 90", got)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if got := dials(); got != 2 {
			t.Errorf("%d dials after 92 s, want 2", got)
		}
	})
}

// A dial that began over the network before is given up for one over the new network.
func TestDialOverTheOldNetworkIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, run := failing(t, nil)
		began := make(chan struct{}, 8)
		l.dial = func(ctx context.Context) (tunnel.Link, error) {
			began <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		run()
		<-began
		start := time.Now()
		l.retry(time.Now())
		<-began
		if took := time.Since(start); took > time.Second {
			t.Errorf("the next dial began after %v", took)
		}
	})
}

// idleLink is a link that never ends.
type idleLink struct {
	tunnel.Link
	transport string
	done      chan struct{}
}

func (l *idleLink) Info() tunnel.Info {
	return tunnel.Info{Transport: l.transport, Local: &net.TCPAddr{}}
}
func (l *idleLink) Done() <-chan struct{} { return l.done }

func TestQUICIsTriedEveryTwoMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, run := failing(t, nil)
		var mu sync.Mutex
		var tries []time.Time
		l.better = func(context.Context) (tunnel.Link, error) {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			return nil, errors.New("UDP is closed")
		}
		over := &idleLink{transport: TransportWebSocket}
		l.held = []*held{{Link: &controlclient.Link{Link: over}, lane: l.kind}}
		l.serving = l.held
		last := time.Now()
		run()
		<-time.After(time.Hour)
		synctest.Wait()
		mu.Lock()
		if len(tries) < 24 || len(tries) > 40 {
			t.Errorf("%d tries in an hour", len(tries))
		}
		for _, at := range tries {
			if wait := at.Sub(last); wait < 90*time.Second || wait > 150*time.Second {
				t.Errorf("waited %v", wait)
			}
			last = at
		}
		n := len(tries)
		mu.Unlock()
		l.retry(time.Now())
		synctest.Wait()
		mu.Lock()
		if len(tries) != n+1 {
			t.Errorf("%d tries at once after the network changed", len(tries)-n)
		}
		n = len(tries)
		mu.Unlock()
		l.mu.Lock() // under which the lane looks
		over.transport = TransportQUIC
		l.mu.Unlock()
		<-time.After(time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(tries) != n {
			t.Error("QUIC was tried over and above a link over QUIC")
		}
	})
}
