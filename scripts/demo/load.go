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
	"os"
	"sync"
	"time"
)

// load is what a load balancer and the clinics' integrations do: requests all the time, spread over the edges that answer.
type load struct {
	fronts []*front
	every  time.Duration

	mu    sync.Mutex // guards what follows
	tally tally
	last  map[string]time.Time // when a clinic's last request was answered
}

// tally is what happened since it was emptied.
type tally struct {
	requests, failed, turnedAway int
	longest                      time.Duration // the longest time that a clinic was without an answer
	faults                       map[string]int
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
	l := &load{every: 10 * time.Millisecond, last: map[string]time.Time{}, tally: tally{faults: map[string]int{}}}
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
		l.note(clinic, nil)
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
			l.note(clinic, l.once(clinic, token, size))
			<-under
		})
	}
}

var errNoEdge = errors.New("no edge takes a connection")

// once sends one request to an edge that takes connections. It is not bound to the end of the load: what has begun is seen through.
func (l *load) once(clinic, token string, size int) error {
	for try, at := range rand.Perm(len(l.fronts) * 2) {
		f := l.fronts[at%len(l.fronts)]
		if f.leftOut() && try < len(l.fronts) {
			continue
		}
		err := f.get(clinic, token, size)
		var none *noConnectionError
		if errors.As(err, &none) {
			f.leaveOut()
			l.mu.Lock()
			l.tally.turnedAway++
			l.mu.Unlock()
			continue
		}
		return err
	}
	return errNoEdge
}

func (f *front) get(clinic, token string, size int) error {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s/oscar/servlet/BackupDownload?bytes=%d", hostOf(clinic), size), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Sallyport-Access-Token", token)
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %s", resp.Status)
	case err != nil:
		return fmt.Errorf("a body broke off: %w", err)
	case got != int64(size):
		return fmt.Errorf("a body of %d bytes had %d", size, got)
	}
	return nil
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

func (l *load) note(clinic string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.requests++
	if err != nil {
		l.tally.failed++
		l.tally.faults[err.Error()]++
		return
	}
	now := time.Now()
	if before, ok := l.last[clinic]; ok {
		l.tally.longest = max(l.tally.longest, now.Sub(before))
	}
	l.last[clinic] = now
}

// take returns what happened since it was called last.
func (l *load) take() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tally
	l.tally = tally{faults: map[string]int{}}
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
			if err := wait(ctx, func(context.Context) error { return f.get(clinic, token, largeBytes) }); err != nil {
				return fmt.Errorf("%s through %s: %w", clinic, f.address, err)
			}
		}
	}
	return nil
}
