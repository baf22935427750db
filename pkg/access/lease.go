package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

// ErrRevoked is the cause of a lease's end when what allowed it no longer does. ErrExpired is the same by mere time.
var (
	ErrRevoked = errors.New("access was withdrawn")
	ErrExpired = fmt.Errorf("%w: its time is over", ErrRevoked)
)

// Lease is the permission for one exchange while it runs. Its context ends, with ErrRevoked as the cause, when the session,
// token, user, app or rules change so that the exchange would not be allowed any more, and when session or token reach
// their end. A plain exchange counts as use of its session for as long as it runs; a WebSocket or a poll does not, and ends
// when the session has lain idle for too long.
type Lease struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	access   *Access
	question Question
	began    time.Time
	passive  bool
	released sync.Once

	mu    sync.Mutex // guards timer and look; held while a wake works
	timer *time.Timer
	look  time.Time // passive: when the session will have been idle for too long, as last seen
}

// Context ends with the lease.
func (l *Lease) Context() context.Context { return l.ctx }

// Release gives the lease back; the exchange is over. It may be called more than once.
func (l *Lease) Release() {
	l.released.Do(func() {
		l.cancel(context.Canceled)
		l.access.leases.remove(l)
		l.mu.Lock()
		l.timer.Stop()
		l.timer = nil
		l.mu.Unlock()
		if in := l.question.Identity.login; in != nil && !l.passive {
			in.use.seen.Store(l.access.cfg.Now().UnixNano())
		}
	})
}

// end withdraws the lease; whoever works under it sees its context end and releases it.
func (l *Lease) end(cause error) {
	if l.ctx.Err() != nil {
		return
	}
	label := "revoked"
	switch {
	case errors.Is(cause, ErrExpired):
		label = "expired"
	case errors.Is(cause, ErrAway):
		label = "away"
	}
	l.access.metrics.ended.WithLabelValues(label).Inc()
	l.cancel(cause)
}

// leases holds every lease of this edge, tenant first.
type leases struct {
	mu       sync.Mutex // guards byTenant
	byTenant map[id.Tenant]map[*Lease]struct{}
}

func (s *leases) open(ctx context.Context, a *Access, q Question) *Lease {
	l := &Lease{
		access: a, question: q, began: a.cfg.Now(),
		passive: q.Identity.passive || q.Request.Upgrade != "",
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	of := s.byTenant[q.Tenant.ID]
	if of == nil {
		of = map[*Lease]struct{}{}
		s.byTenant[q.Tenant.ID] = of
	}
	of[l] = struct{}{}
	s.mu.Unlock()
	l.mu.Lock()
	if in := q.Identity.login; in != nil {
		l.look = in.idleEnd()
	}
	l.timer = time.AfterFunc(l.next(l.began), l.wake)
	l.mu.Unlock()
	return l
}

func (s *leases) remove(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.byTenant[l.question.Tenant.ID]
	delete(of, l)
	if len(of) == 0 {
		delete(s.byTenant, l.question.Tenant.ID)
	}
}

// pick returns a tenant's leases that match, to be worked on without the lock.
func (s *leases) pick(t id.Tenant, match func(*Lease) bool) []*Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Lease
	for l := range s.byTenant[t] {
		if match(l) {
			out = append(out, l)
		}
	}
	return out
}

// all returns every lease that has not ended.
func (s *leases) all() (out []*Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.byTenant {
		for l := range of {
			if l.ctx.Err() == nil {
				out = append(out, l)
			}
		}
	}
	return out
}

// endAll ends every lease that has not ended, and returns how many those were.
func (s *leases) endAll(cause error) (n int) {
	all := s.all()
	for _, l := range all {
		l.end(cause)
	}
	return len(all)
}

// Leases returns how many exchanges run under a lease now.
func (a *Access) Leases() int {
	a.leases.mu.Lock()
	defer a.leases.mu.Unlock()
	n := 0
	for _, of := range a.leases.byTenant {
		n += len(of)
	}
	return n
}

// next is how long to wait before looking at the lease again.
func (l *Lease) next(now time.Time) time.Duration {
	who := l.question.Identity
	at := l.hardEnd()
	if who.login != nil {
		look := now.Add(session.TouchEvery)
		if l.passive {
			look = l.look
		}
		at = earlier(at, look)
	}
	// Never at once again: a clock that stands still must not make this spin.
	return max(at.Sub(now), time.Second)
}

// hardEnd is when the lease ends whatever happens.
func (l *Lease) hardEnd() time.Time {
	if m := l.question.Identity.machine; m != nil {
		return m.ends()
	}
	return l.question.Identity.login.session.Expires
}

// wake looks whether the lease's time is over, and notes use that goes on.
func (l *Lease) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil || l.ctx.Err() != nil {
		return
	}
	a, now := l.access, l.access.cfg.Now()
	in := l.question.Identity.login
	switch {
	case !now.Before(l.hardEnd()):
		l.end(ErrExpired)
		return
	case in != nil && l.passive:
		// The session may have been used on another host or edge; login reads again what looks ended.
		ctx, cancel := context.WithTimeout(l.ctx, storeWait)
		fresh, err := a.login(ctx, in.key)
		cancel()
		if err != nil {
			l.end(ErrExpired)
			return
		}
		l.look = fresh.idleEnd()
	case in != nil:
		a.used(l.ctx, in)
	}
	l.timer.Reset(l.next(now))
}
