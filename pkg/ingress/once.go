package ingress

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Finding is what one request to an origin found.
type Finding struct {
	// Name and Origin are as in OriginHealth.
	Name, Origin string
	// State is one of the State… words: ok, refused, timeout, certificate or error.
	State string
	// Problem says what was wrong, for whoever looks after the connector's machine: it may hold addresses. Empty when State
	// is ok.
	Problem string
	// Pinned reports that the rule knows the origin's certificate by a pin; BadPin, that it showed another key.
	Pinned, BadPin bool
	// Status and Latency are the answer's; 0 without one. Expires is the end of its certificate; zero where none was shown.
	Status  int
	Latency time.Duration
	Expires time.Time
}

// Examine asks each origin of the rules once, at the same time, as its health check would, within limit and the rule's own. It
// serves nothing and remembers nothing.
func Examine(ctx context.Context, rules *Rules, limit time.Duration) []Finding {
	in := New(Config{Rules: rules})
	defer in.Close()
	origins := in.current.Load().origins
	found := make([]Finding, len(origins))
	var asking sync.WaitGroup
	for i, o := range origins {
		asking.Go(func() { found[i] = o.examine(ctx, limit) })
	}
	asking.Wait()
	return found
}

func (o *origin) examine(ctx context.Context, limit time.Duration) Finding {
	ctx, cancel := context.WithTimeout(ctx, min(limit, o.probe.Timeout))
	defer cancel()
	f := Finding{Name: o.name, Origin: o.url.String(), State: StateOK, Pinned: len(o.tls.Pin) > 0}
	var err error
	f.Status, f.Latency, err = o.ask(ctx)
	if at := o.dialer.expires.Load(); at != 0 {
		f.Expires = time.Unix(at, 0)
	}
	switch {
	case err != nil:
		why := explain(err)
		f.State, f.Problem, f.BadPin = why.state, why.Error(), errors.Is(err, errPin)
		if f.State == "" {
			f.State = StateError
		}
	case !o.probe.wants(f.Status):
		f.State, f.Problem = StateError, fmt.Sprintf("it answers %s with status %d", o.probe.Path, f.Status)
	}
	return f
}
