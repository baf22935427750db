package connector

import (
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/token"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Bounds of what is remembered. When marks overflow, the oldest is dropped: the edge itself ends a revoked session's
// exchanges and mints it no assertion; the mark only guards against an edge that does neither.
const (
	maxVerified = 4096
	maxMarks    = 1 << 14
	markLife    = token.AssertionLife + 2*token.Leeway
)

// assertions verifies assertions and remembers which ones held: an edge uses one for minutes, and a look-up is a hundred times
// cheaper than a signature. Nothing that was remembered outlives its expiry or a revocation.
type assertions struct {
	verifier token.Verifier
	now      func() time.Time // the edge's clock

	mu         sync.Mutex           // guards all below
	epoch      uint64               // of the verifier's keys, when what is held was verified
	held       map[string]verified  // by the assertion itself, of 8 KiB at most
	sessions   map[string]time.Time // session → when it was revoked, by the edge's clock
	principals map[string]time.Time
	all        time.Time
}

type verified struct {
	claims token.Claims
	want   token.Expect
}

func newAssertions(v token.Verifier, now func() time.Time) *assertions {
	return &assertions{
		verifier: v, now: now, held: map[string]verified{},
		sessions: map[string]time.Time{}, principals: map[string]time.Time{},
	}
}

// verify returns the claims of an assertion that holds now and is what is wanted.
func (a *assertions) verify(raw string, want token.Expect) (token.Claims, error) {
	now, epoch := a.now(), a.keysEpoch()
	a.mu.Lock()
	if a.epoch != epoch { // a key may have been withdrawn
		clear(a.held)
		a.epoch = epoch
	}
	known, ok := a.held[raw]
	a.mu.Unlock()
	if ok && known.want == want && now.Before(known.claims.Expires) {
		return known.claims, nil
	}
	claims, err := a.verifier.Verify(raw, want, now)
	if err != nil {
		return token.Claims{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.held) >= maxVerified {
		a.shrink(now)
	}
	if a.epoch == epoch {
		a.held[strings.Clone(raw)] = verified{claims, want} // raw is a part of the whole head
	}
	return claims, nil
}

func (a *assertions) keysEpoch() uint64 {
	if aging, ok := a.verifier.(token.Aging); ok {
		return aging.Epoch()
	}
	return 0
}

// shrink forgets what has expired, and everything if that is not enough: it can all be verified again.
func (a *assertions) shrink(now time.Time) {
	for key, v := range a.held {
		if !now.Before(v.claims.Expires) {
			delete(a.held, key)
		}
	}
	if len(a.held) >= maxVerified {
		clear(a.held)
	}
}

// revoke forgets what was verified for whom it names and marks it: a revoked session stays revoked, a principal's assertions
// count again when they were minted later.
func (a *assertions) revoke(r *tunnelv1.Revoke) {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.GetAll() {
		a.all = now
	}
	if s := r.GetSession(); s != "" {
		mark(a.sessions, s, now)
	}
	if p := r.GetPrincipal(); p != "" {
		mark(a.principals, p, now)
	}
	for key, v := range a.held {
		if names(r, v.claims) {
			delete(a.held, key)
		}
	}
}

// names reports whether a revocation concerns the holder of claims.
func names(r *tunnelv1.Revoke, c token.Claims) bool {
	return r.GetAll() || r.GetSession() != "" && r.GetSession() == string(c.Session) ||
		r.GetPrincipal() != "" && r.GetPrincipal() == c.Subject
}

func mark(marks map[string]time.Time, key string, now time.Time) {
	if _, again := marks[key]; !again && len(marks) >= maxMarks {
		oldest, at := "", now.Add(time.Hour)
		for k, t := range marks {
			if now.Sub(t) > markLife {
				delete(marks, k)
			} else if t.Before(at) {
				oldest, at = k, t
			}
		}
		if len(marks) >= maxMarks {
			delete(marks, oldest)
		}
	}
	marks[key] = now
}

// revoked reports whether the holder of claims was revoked after they were minted.
func (a *assertions) revoked(c token.Claims) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, gone := a.sessions[string(c.Session)]; gone {
		return true
	}
	// Assertions carry whole seconds: one of the same second counts as earlier.
	before := func(at time.Time) bool { return !at.IsZero() && !c.IssuedAt.After(at) }
	return before(a.principals[c.Subject]) || before(a.all)
}
