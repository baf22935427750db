package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// addressLead is the head start of one address over the next (RFC 8305 §5).
const addressLead = 250 * time.Millisecond

// Race dials target with first, and with second as well once lead has passed or first has failed. The link that is up
// first is returned, a slower one is closed. If both fail the error holds both. An edge that answers first's dial with when to
// come back is not asked over second too: it is the same edge, and has its reasons.
func Race(ctx context.Context, target Target, first, second Dialer, lead time.Duration) (Link, error) {
	dialers := []Dialer{first, second}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	link, err := stagger(ctx, len(dialers), lead, func(ctx context.Context, i int) (Link, error) {
		link, err := dialers[i].Dial(ctx, target)
		if err != nil {
			if i == 0 && ComeBack(err) > 0 {
				stop()
			}
			return nil, fmt.Errorf("%s: %w", dialers[i].Transport(), err)
		}
		return link, nil
	}, closeLoser)
	if err != nil {
		return nil, fmt.Errorf("no link to the edge: %w", err)
	}
	return link, nil
}

// ComeBack is when to dial again by the word of the peer that refused a dial; 0 for any other failure.
func ComeBack(err error) time.Duration {
	var closed *ClosedError
	if !errors.As(err, &closed) || !closed.Remote {
		return 0
	}
	return closed.Reason.RetryAfter
}

// FirstAddress resolves the target anew and tries its addresses in order, each with a quarter of a second's head start over
// the next. It returns the first link that is up; slower ones are closed. While DNS is down it tries the addresses at which the
// edge was last reached.
func FirstAddress(ctx context.Context, target Target, dial func(context.Context, netip.AddrPort) (Link, error)) (Link, error) {
	host, port, err := target.HostPort()
	if err != nil {
		return nil, err
	}
	addrs, err := target.Known.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs = Interleave(addrs)
	link, err := stagger(ctx, len(addrs), addressLead, func(ctx context.Context, i int) (Link, error) {
		return dial(ctx, netip.AddrPortFrom(addrs[i], port))
	}, closeLoser)
	if err != nil {
		return nil, err
	}
	target.Known.Remember(host, addrs)
	return link, nil
}

func closeLoser(l Link) {
	_ = l.Close(Reason{Code: ReasonGoodbye, Message: "another transport or address was faster"})
}

// stagger runs n attempts, the next one after lead or as soon as all running ones have failed. It returns the first
// success, cancels the others, waits for them and drops what they bring. Attempts must obey their context.
func stagger[T any](ctx context.Context, n int, lead time.Duration, try func(context.Context, int) (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, n)
	started, running := 0, 0
	start := func() {
		i := started
		started, running = started+1, running+1
		go func() {
			value, err := try(ctx, i)
			results <- result{value, err}
		}()
	}
	timer := time.NewTimer(lead)
	defer timer.Stop()
	var errs []error
	var winner *result
	for winner == nil && (running > 0 || started < n && ctx.Err() == nil) {
		if running == 0 {
			start()
			timer.Reset(lead)
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				winner = &r
				break
			}
			errs = append(errs, r.err)
		case <-timer.C:
			if started < n {
				start()
				timer.Reset(lead)
			}
		}
	}
	cancel()
	for ; running > 0; running-- {
		if r := <-results; r.err == nil {
			drop(r.value)
		}
	}
	if winner == nil {
		if err := context.Cause(ctx); len(errs) == 0 && err != nil {
			errs = append(errs, err)
		}
		var none T
		return none, errors.Join(errs...)
	}
	return winner.value, nil
}
