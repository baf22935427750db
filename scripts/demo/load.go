package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// load is what a load balancer and the clinics' integrations do: requests all the time, spread over the edges that answer.
type load struct {
	fronts []*front
	every  time.Duration

	mu      sync.Mutex // guards what follows
	tally   tally
	last    map[string]time.Time // when a clinic's last request was answered
	open    map[*request]struct{}
	leaving *leaving // nil while nothing goes
	// answered are the identifiers of all requests that got a whole answer.
	answered []string
}

// tally is what happened since it was emptied.
type tally struct {
	requests, turnedAway int
	longest              time.Duration // the longest time that a clinic was without an answer
	slowest              time.Duration // the longest that a request took which was answered
	failures             []failure
}

// failure is a request that came to nothing.
type failure struct {
	began time.Time
	front *front // the last one that it was sent to
	why   string
}

// request is one that is under way.
type request struct {
	clinic string
	began  time.Time
	front  *front // on which it is tried now
}

// leaving counts what may break with a part that goes: every request that is under way at any moment from the signal until the
// process is no more, and of these the ones that the load sent to it.
type leaving struct {
	front     *front // nil for a part that is no edge
	under, on map[*request]struct{}
}

// front is one edge as the load balancer sees it.
type front struct {
	address string
	client  *http.Client

	mu   sync.Mutex
	down time.Time // until when it is left out
}

const (
	underWay   = 1000                   // requests of a clinic at a time, at most
	leaveOut   = 500 * time.Millisecond // an edge that takes no connection
	largeEvery = 10                     // one request in so many brings largeBytes
	smallBytes = 2_000
	largeBytes = 600_000 // goes on on a bulk link
)

func (r *rig) newLoad() (*load, error) {
	pem, err := os.ReadFile(r.path(edgeName(1), "ca", "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l := &load{every: 10 * time.Millisecond, last: map[string]time.Time{}, open: map[*request]struct{}{}}
	for n := 1; n <= edges; n++ {
		f := &front{address: fmt.Sprintf("127.0.0.1:%d", r.listens(n))}
		f.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, f.address)
				if err != nil {
					err = &noConnectionError{err}
				}
				return conn, err
			},
		}}
		l.fronts = append(l.fronts, f)
	}
	return l, nil
}

// noConnectionError says that an edge took no connection: nothing was sent, and the next edge is asked.
type noConnectionError struct{ error }

func (e *noConnectionError) Unwrap() error { return e.error }

// run sends until ctx ends.
func (l *load) run(ctx context.Context, tokens map[string]string) {
	var all sync.WaitGroup
	for clinic, token := range tokens {
		l.last[clinic] = time.Now()
		all.Go(func() { l.clinic(ctx, &all, clinic, token) })
	}
	all.Wait()
}

// clinic sends at its pace whatever becomes of what it sent before, as people do.
func (l *load) clinic(ctx context.Context, all *sync.WaitGroup, clinic, token string) {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	under := make(chan struct{}, underWay)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		size := smallBytes
		if n%largeEvery == largeEvery-1 {
			size = largeBytes
		}
		select {
		case under <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			one := l.begin(clinic)
			id, err := l.once(one, token, size)
			l.end(one, id, err)
			<-under
		})
	}
}

var errNoEdge = errors.New("no edge takes a connection")

// once sends one request to an edge that takes connections. It is not bound to the end of the load: what has begun is seen through.
func (l *load) once(one *request, token string, size int) (id string, err error) {
	for try, at := range rand.Perm(len(l.fronts) * 2) {
		f := l.fronts[at%len(l.fronts)]
		if f.leftOut() && try < len(l.fronts) {
			continue
		}
		l.on(one, f)
		id, err = f.get(one.clinic, token, size)
		var none *noConnectionError
		if errors.As(err, &none) {
			f.leaveOut()
			l.mu.Lock()
			l.tally.turnedAway++
			l.mu.Unlock()
			continue
		}
		return id, err
	}
	return "", errNoEdge
}

// get asks for a body of some bytes and returns the identifier that the edge gave the request.
func (f *front) get(clinic, token string, size int) (id string, err error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s/oscar/servlet/BackupDownload?bytes=%d", hostOf(clinic), size), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Sallyport-Access-Token", token)
	resp, err := f.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("answered %s", resp.Status)
	case err != nil:
		return "", fmt.Errorf("a body broke off: %w", err)
	case got != int64(size):
		return "", fmt.Errorf("a body of %d bytes had %d", size, got)
	}
	return resp.Header.Get("X-Request-Id"), nil
}

func (f *front) leftOut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.down)
}

func (f *front) leaveOut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = time.Now().Add(leaveOut)
}

func (l *load) begin(clinic string) *request {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := &request{clinic: clinic, began: time.Now()}
	l.open[one] = struct{}{}
	l.leaving.see(one)
	return one
}

func (l *load) on(one *request, f *front) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.front = f
	l.leaving.see(one)
}

func (l *load) end(one *request, id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, one)
	l.tally.requests++
	if err != nil {
		l.tally.failures = append(l.tally.failures, failure{one.began, one.front, reason(err)})
		return
	}
	l.answered = append(l.answered, id)
	now := time.Now()
	l.tally.longest = max(l.tally.longest, now.Sub(l.last[one.clinic]))
	l.tally.slowest = max(l.tally.slowest, now.Sub(one.began))
	l.last[one.clinic] = now
}

// reason is an error without what differs from request to request: the URL and the ports.
func reason(err error) string {
	var tried *url.Error
	if errors.As(err, &tried) {
		err = tried.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err.Error()
}

func (g *leaving) see(one *request) {
	if g == nil {
		return
	}
	g.under[one] = struct{}{}
	if g.front != nil && one.front == g.front {
		g.on[one] = struct{}{}
	}
}

// goes is called before a part is told to go, with its front if it is an edge.
func (l *load) goes(f *front) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = &leaving{front: f, under: map[*request]struct{}{}, on: map[*request]struct{}{}}
	for one := range l.open {
		l.leaving.see(one)
	}
}

// gone is called when the part is no more: what begins from now on has no part in it.
func (l *load) gone() (under, on int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.leaving
	l.leaving = nil
	return len(g.under), len(g.on)
}

// endedBefore waits until everything that began before at has ended, which the load's own time-out bounds.
func (l *load) endedBefore(ctx context.Context, at time.Time) {
	for ctx.Err() == nil && l.hasOpen(at) {
		pause(ctx, 20*time.Millisecond)
	}
}

func (l *load) hasOpen(before time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.open {
		if one.began.Before(before) {
			return true
		}
	}
	return false
}

// take returns what happened since it was called last.
func (l *load) take() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tally
	l.tally = tally{}
	return t
}

// everywhere waits until each clinic can be reached through each edge.
func (r *rig) everywhere(ctx context.Context) error {
	l, err := r.newLoad()
	if err != nil {
		return err
	}
	for _, f := range l.fronts {
		for clinic, token := range r.tokens {
			if err := wait(ctx, func(context.Context) error {
				_, err := f.get(clinic, token, largeBytes)
				return err
			}); err != nil {
				return fmt.Errorf("%s through %s: %w", clinic, f.address, err)
			}
		}
	}
	return nil
}
