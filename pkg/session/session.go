// Package session owns browser logins: how long they live, what proves them, and when they are over. A session belongs to
// one user of one tenant; each host of the tenant holds its own opaque reference to it. It never means a transport
// connection (that is a link), and it reads no cookies.
package session

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// The limits of a session (standards: NIST SP 800-63B-4 §2.2.3 asks ≤ 24 h and ≤ 1 h idle at AAL2).
const (
	DefaultIdle     = 30 * time.Minute
	DefaultAbsolute = 12 * time.Hour
	// HandoffLife is how long an app host may take to redeem the code that sign-in gave to the browser.
	HandoffLife = time.Minute
)

// Session is one login.
type Session struct {
	Tenant id.Tenant
	ID     id.Session
	User   id.User
	// Methods are RFC 8176 authentication method references.
	Methods  []string
	Created  time.Time
	LastSeen time.Time
	// Expires is the absolute end; IdleFor is how long it may lie unused before.
	Expires time.Time
	IdleFor time.Duration
	// Revoked is zero while the session lives.
	Revoked time.Time
	// Client and Source help a person to recognise the session in a list: browser family and network address.
	Client string
	Source string
}

// Live reports whether the session may still be used at now.
func (s Session) Live(now time.Time) bool {
	return s.Revoked.IsZero() && now.Before(s.Expires) && now.Before(s.LastSeen.Add(s.IdleFor))
}

// Reference is what one host's cookie holds: 256 random bits, of which the store knows the hash.
type Reference struct {
	Tenant  id.Tenant
	Hash    string // secret.Hash of the cookie's value
	Session id.Session
	// Host is the only host where the reference counts.
	Host    string
	Created time.Time
}

// Handoff carries a fresh sign-in from the sign-in host to an app host: a code, spent once, by the browser that began.
type Handoff struct {
	Tenant  id.Tenant
	Hash    string // secret.Hash of the code
	Session id.Session
	Host    string
	// Flow is secret.Hash of the flow cookie that the app host gave to the browser that began.
	Flow    string
	Expires time.Time
}

// Store keeps sessions, references and handoffs. Writes are durable when they return.
type Store interface {
	// CreateSession stores a new session with the sign-in host's reference to it; fault.Denied when its user is disabled.
	CreateSession(ctx context.Context, s Session, signIn Reference) error
	// Session returns the session of a reference presented at host; fault.NotFound when there is none.
	SessionByReference(ctx context.Context, tenant id.Tenant, hash, host string) (Session, error)
	Session(ctx context.Context, tenant id.Tenant, session id.Session) (Session, error)
	// Sessions lists the sessions of a tenant, newest first, ended ones left out.
	Sessions(ctx context.Context, tenant id.Tenant, now time.Time) ([]Session, error)
	// Touch moves LastSeen forward; it never revives an ended session.
	Touch(ctx context.Context, tenant id.Tenant, session id.Session, seen time.Time) error
	// Revoke ends a session; it appends to the change log. Revoking an ended one is no error.
	Revoke(ctx context.Context, tenant id.Tenant, session id.Session, at time.Time) error
	// CreateHandoff stores a code.
	CreateHandoff(ctx context.Context, h Handoff) error
	// RedeemHandoff spends the code and stores ref, atomically: of many concurrent calls one succeeds. A wrong host or
	// flow does not spend it. Every failure is fault.Denied.
	RedeemHandoff(ctx context.Context, tenant id.Tenant, hash, host, flow string, now time.Time, ref Reference) (Session, error)
}
