package connector

import (
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/token"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// running knows the exchanges that run now, so that a revocation can end them.
type running struct {
	mu   sync.Mutex // guards all below
	all  map[*exchangeOf]struct{}
	last time.Time // when an exchange was added last
}

type exchangeOf struct {
	claims token.Claims
	end    func()
	ended  sync.Once
	ending sync.WaitGroup
}

func newRunning() *running { return &running{all: map[*exchangeOf]struct{}{}} }

// add notes an exchange; end is called once, on a goroutine of its own, if it is revoked.
func (r *running) add(c token.Claims, end func()) *exchangeOf {
	x := &exchangeOf{claims: c, end: end}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	r.all[x] = struct{}{}
	return x
}

// remove takes an exchange out and waits for an end that runs, because what end uses is gone after that.
func (r *running) remove(x *exchangeOf) {
	r.mu.Lock()
	delete(r.all, x)
	r.mu.Unlock()
	x.ending.Wait()
}

// end ends the exchanges that a revocation names. Telling the edge can take seconds when it does not read, so the exchanges
// do not wait for one another, nor the control stream for any of them.
func (r *running) end(revoked *tunnelv1.Revoke) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for x := range r.all {
		if names(revoked, x.claims) {
			x.ended.Do(func() { x.ending.Go(x.end) })
		}
	}
}

// lately is when an exchange began last; zero if none did.
func (r *running) lately() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *running) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}
