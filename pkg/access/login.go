package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

// loginKey names a reference at the one host where it counts.
type loginKey struct {
	tenant id.Tenant
	hash   string
	host   string
}

// login is a copy of a session and its user, with how it is used here.
type login struct {
	key     loginKey
	session session.Session
	user    identity.User
	use     *usage // outlives the copy
	// checked is the access token that was verified for this login last.
	checked atomic.Pointer[checkedToken]
}

type checkedToken struct {
	sum     [sha256.Size]byte
	expires time.Time
}

// usage is how a login is used on this edge. An exchange is use for as long as it runs (its lease notes that every minute),
// so that a long download does not end its own session; polls and open WebSockets are not, since they go on when nobody is
// there.
type usage struct {
	seen    atomic.Int64 // unix nanoseconds
	touched atomic.Int64 // when the store was last told
}

// live reports whether the session may be used at now, as far as is known here.
func (l *login) live(now time.Time) bool {
	s := l.session
	if seen := time.Unix(0, l.use.seen.Load()); seen.After(s.LastSeen) {
		s.LastSeen = seen
	}
	return s.Live(now) && !l.user.Disabled
}

// idleEnd is when the session ends if it is not used again.
func (l *login) idleEnd() time.Time {
	seen := l.session.LastSeen
	if here := time.Unix(0, l.use.seen.Load()); here.After(seen) {
		seen = here
	}
	return seen.Add(l.session.IdleFor)
}

var errStranger = fault.New(fault.Unauthentic, "please sign in")

// login returns the live login of a reference, or fault.Unauthentic. A copy that looks ended is read once more, for the
// session may have been used on another host or edge.
func (a *Access) login(ctx context.Context, k loginKey) (*login, error) {
	for range 2 {
		l, err := a.logins.get(ctx, k, func(ctx context.Context, before *login) (*login, error) { return a.readLogin(ctx, k, before) })
		if err != nil {
			return nil, err
		}
		if a.revokedLogin(l) {
			break
		}
		if l.live(a.cfg.Now()) {
			return l, nil
		}
		a.logins.forget(k)
	}
	return nil, errStranger
}

// revokedLogin is for what the store may not know yet.
func (a *Access) revokedLogin(l *login) bool {
	t := l.key.tenant
	return a.cfg.Revoked(t, change.Session, string(l.session.ID)) || a.cfg.Revoked(t, change.User, string(l.user.ID)) ||
		a.cfg.Revoked(t, change.User, l.user.Email)
}

func (a *Access) readLogin(ctx context.Context, k loginKey, before *login) (*login, error) {
	s, err := a.cfg.Sessions.SessionByReference(ctx, k.tenant, k.hash, k.host)
	if err != nil {
		return nil, lookup(err, errStranger)
	}
	u, err := a.cfg.Users.User(ctx, k.tenant, s.User)
	if err != nil {
		return nil, lookup(err, errStranger)
	}
	// The store looks up by tenant already; anything else here would be a fault that must not open a door.
	if s.Tenant != k.tenant || u.Tenant != k.tenant || u.ID != s.User {
		return nil, errStranger
	}
	l := &login{key: k, session: s, user: u, use: &usage{}}
	if before != nil && before.session.ID == s.ID {
		l.use = before.use
		l.checked.Store(before.checked.Load())
	}
	return l, nil
}

// lookup turns "there is none" into absent and keeps every other failure apart from it: a store that does not answer must
// not look like a sign-out.
func lookup(err error, absent error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unauthentic) || fault.Is(err, fault.Denied) {
		return absent
	}
	return fault.New(fault.Unavailable, "this cannot be checked just now").Because(errors.Join(ErrUnchecked, err))
}

// used notes use of the login, in the store at most once a minute. That the store did not take it is no reason to refuse; while
// it is away nobody waits for it, and the first use after that is noted.
func (a *Access) used(ctx context.Context, l *login) {
	now := a.cfg.Now()
	l.use.seen.Store(now.UnixNano())
	last := l.use.touched.Load()
	if from := l.session.LastSeen.UnixNano(); from > last {
		last = from
	}
	old := l.use.touched.Load()
	if now.UnixNano()-last < int64(session.TouchEvery) || a.away() || !l.use.touched.CompareAndSwap(old, now.UnixNano()) {
		return
	}
	a.touch(ctx, l, now)
}

func (a *Access) touch(ctx context.Context, l *login, seen time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	if err := a.cfg.Sessions.Touch(ctx, l.key.tenant, l.session.ID, seen); err != nil {
		a.cfg.Logger.Warn("use of a session not noted", log.Tenant(l.key.tenant), log.Session(l.session.ID), zap.Error(err))
	}
}

// tellUse notes what was used while the store was away, so that nobody is signed out elsewhere who was at work here.
func (a *Access) tellUse(ctx context.Context) {
	for _, l := range a.logins.all() {
		if ctx.Err() != nil || a.away() {
			return
		}
		told, seen := max(l.use.touched.Load(), l.session.LastSeen.UnixNano()), l.use.seen.Load()
		if seen-told >= int64(session.TouchEvery) {
			l.use.touched.Store(seen)
			a.touch(ctx, l, time.Unix(0, seen))
		}
	}
}
