package session

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Limits are a tenant's limits of a session; zero fields mean the defaults.
type Limits struct {
	Idle     time.Duration // 5 to 60 min
	Absolute time.Duration // at most 24 h
}

// TouchEvery is how often a busy session's LastSeen is written: idle times are exact to this.
const TouchEvery = time.Minute

// Keeper makes, finds, hands on and ends sessions over a Store. It is safe for concurrent use.
type Keeper struct {
	store  Store
	limits Limits
	now    func() time.Time

	mu      sync.Mutex // guards touched and recent
	touched map[id.Session]time.Time
	recent  map[place]id.Session
}

// place is where a reference counts; the tenant comes first, as in every key.
type place struct {
	tenant id.Tenant
	hash   string
	host   string
}

// NewKeeper returns a Keeper; now nil means time.Now.
func NewKeeper(store Store, limits Limits, now func() time.Time) *Keeper {
	if limits.Idle == 0 {
		limits.Idle = DefaultIdle
	}
	if limits.Absolute == 0 {
		limits.Absolute = DefaultAbsolute
	}
	if now == nil {
		now = time.Now
	}
	return &Keeper{store: store, limits: limits, now: now, touched: map[id.Session]time.Time{}, recent: map[place]id.Session{}}
}

// Login is what a new session is made of.
type Login struct {
	Tenant     id.Tenant
	User       id.User
	Methods    []string
	SignInHost string
	Client     string // browser family, for the list of sessions
	Source     string // SourceOf the client
}

// Create makes a session with the sign-in host's reference to it, and returns that reference's value for the cookie. Every
// sign-in makes a new one, so that no value from before it is worth anything after (ASVS 7.2.4).
func (k *Keeper) Create(ctx context.Context, l Login) (Session, string, error) {
	now := k.now()
	s := Session{
		Tenant: l.Tenant, ID: id.NewSession(), User: l.User, Methods: l.Methods,
		Created: now, LastSeen: now, Expires: now.Add(k.limits.Absolute), IdleFor: k.limits.Idle,
		Client: l.Client, Source: l.Source,
	}
	value, ref := newReference(s, l.SignInHost, now)
	if err := k.store.CreateSession(ctx, s, ref); err != nil {
		return Session{}, "", err
	}
	k.Remember(s.Tenant, value, ref.Host, s.ID)
	return s, value, nil
}

func newReference(s Session, host string, now time.Time) (string, Reference) {
	value := NewSecret()
	return value, Reference{Tenant: s.Tenant, Hash: secret.Hash(value), Session: s.ID, Host: host, Created: now}
}

// Lookup returns the live session behind a reference presented at host; fault.Unauthentic for anything else, whatever the
// reason. An error of the store comes back as it is: it must not look like a sign-out.
func (k *Keeper) Lookup(ctx context.Context, tenant id.Tenant, reference, host string) (Session, error) {
	s, err := k.Last(ctx, tenant, reference, host)
	if err != nil {
		return Session{}, err
	}
	// The store looks up by tenant already; a session of another tenant here would be a fault that must not open a door.
	if s.Tenant != tenant || !s.Live(k.now()) {
		return Session{}, errUnauthentic
	}
	k.Remember(tenant, reference, host, s.ID)
	return s, nil
}

// Remembered returns which session a reference meant when it was last looked up here, or made. It opens nothing: it is for ending the
// session when the store does not say whose it is. What was not used here of late is not remembered.
func (k *Keeper) Remembered(tenant id.Tenant, reference, host string) (id.Session, bool) {
	if !wellFormed(reference) {
		return "", false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.recent[place{tenant, secret.Hash(reference), host}]
	return s, ok
}

// Remember notes for Remembered what is known from elsewhere.
func (k *Keeper) Remember(tenant id.Tenant, reference, host string, s id.Session) {
	if !wellFormed(reference) {
		return
	}
	at := place{tenant, secret.Hash(reference), host}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.recent) >= maxRecent {
		clear(k.recent)
	}
	k.recent[at] = s
}

// maxRecent bounds what Remembered knows.
const maxRecent = 20_000

// Last returns the session behind a reference whether it still lives or not: it says who was here, and opens nothing.
// fault.Unauthentic when there is none.
func (k *Keeper) Last(ctx context.Context, tenant id.Tenant, reference, host string) (Session, error) {
	if !wellFormed(reference) {
		return Session{}, errUnauthentic
	}
	s, err := k.store.SessionByReference(ctx, tenant, secret.Hash(reference), host)
	if fault.Is(err, fault.NotFound) {
		return Session{}, errUnauthentic
	}
	return s, err
}

var errUnauthentic = fault.New(fault.Unauthentic, "not signed in")

// Handoff makes a code that lets the browser with this flow cookie sign in at host, once, within HandoffLife.
func (k *Keeper) Handoff(ctx context.Context, s Session, host, flowHash string) (string, error) {
	code := NewSecret()
	err := k.store.CreateHandoff(ctx, Handoff{
		Tenant: s.Tenant, Hash: secret.Hash(code), Session: s.ID, Host: host, Flow: flowHash, Expires: k.now().Add(HandoffLife),
	})
	return code, err
}

// Redeem spends a code at host in the browser that holds the flow cookie, and returns the session with the value of the
// host's new reference. Every refusal is fault.Denied.
func (k *Keeper) Redeem(ctx context.Context, tenant id.Tenant, code, host, flow string) (Session, string, error) {
	if !wellFormed(code) || !wellFormed(flow) {
		return Session{}, "", fault.New(fault.Denied, "this sign-in cannot be completed")
	}
	now := k.now()
	value := NewSecret()
	// The store fills in the session: it is the code that knows it.
	ref := Reference{Tenant: tenant, Hash: secret.Hash(value), Host: host, Created: now}
	s, err := k.store.RedeemHandoff(ctx, tenant, secret.Hash(code), host, secret.Hash(flow), now, ref)
	if err != nil {
		return Session{}, "", err
	}
	if s.Tenant != tenant || !s.Live(now) {
		return Session{}, "", fault.New(fault.Denied, "this sign-in cannot be completed")
	}
	k.Remember(tenant, value, host, s.ID)
	return s, value, nil
}

// Touch notes that the session is in use, in the store at most once every TouchEvery.
func (k *Keeper) Touch(ctx context.Context, s Session) error {
	now := k.now()
	if !k.touchDue(s, now) {
		return nil
	}
	return k.store.Touch(ctx, s.Tenant, s.ID, now)
}

func (k *Keeper) touchDue(s Session, now time.Time) bool {
	if now.Sub(s.LastSeen) < TouchEvery {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.touched[s.ID]) < TouchEvery {
		return false
	}
	if len(k.touched) > maxTouched {
		// What is older than TouchEvery says nothing any more.
		for other, at := range k.touched {
			if now.Sub(at) >= TouchEvery {
				delete(k.touched, other)
			}
		}
	}
	k.touched[s.ID] = now
	return true
}

// maxTouched is when the memory of touches is swept.
const maxTouched = 10_000

// End revokes the session on every host.
func (k *Keeper) End(ctx context.Context, tenant id.Tenant, session id.Session) error {
	return k.store.Revoke(ctx, tenant, session, k.now())
}
