package access_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

var (
	maple = tenant.Tenant{ID: "maple", SignInHost: "signin.maple.example"}
	cedar = tenant.Tenant{ID: "cedar", SignInHost: "signin.cedar.example"}
	lee   = identity.User{Tenant: "maple", ID: "usr_lee", Issuer: "sallyport", Subject: "usr_lee"}
)

func oscar(rules ...policy.Rule) tenant.App {
	return tenant.App{Tenant: "maple", ID: "app_1", Host: "oscar.maple.example", Path: "/", Site: "main", Rules: rules}
}

func allow(kind policy.PrincipalKind, name string) policy.Rule {
	return policy.Rule{ID: "allow-" + name, Effect: policy.Allow, Include: []policy.Selector{{Kind: kind, ID: name}}}
}

// world is everything around an Access: a store in memory, a log of changes, a record.
type world struct {
	mu        sync.Mutex
	keys      []token.Key
	sessions  map[id.Session]session.Session
	refs      map[[3]string]id.Session // tenant, hash, host
	users     map[id.User]identity.User
	tokens    map[id.Token]token.ServiceToken
	apps      []tenant.App
	away      bool
	reads     int
	touches   int
	recorded  []audit.Decision
	recording func() error // called by Decide
	read      func()       // called between reading a session and handing it out
	follow    func(context.Context, []change.Change) error
	ring      *token.Keyring
	access    *access.Access
}

func newWorld(t testing.TB, now func() time.Time) *world {
	t.Helper()
	w := &world{
		sessions: map[id.Session]session.Session{}, refs: map[[3]string]id.Session{},
		users: map[id.User]identity.User{lee.ID: lee}, tokens: map[id.Token]token.ServiceToken{},
		apps: []tenant.App{oscar(allow(policy.UserPrincipal, "usr_lee"), allow(policy.ServicePrincipal, "booking"))},
	}
	ring, err := token.NewKeyring(context.Background(), w, now)
	if err != nil {
		t.Fatal(err)
	}
	w.ring = ring
	w.access = access.New(access.Config{
		Keys: ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: w, Now: now,
	})
	return w
}

func (w *world) Subscribe(_ string, _ []change.Kind, f func(context.Context, []change.Change) error) {
	w.follow = f
}

func (w *world) CreateKey(_ context.Context, k token.Key) error {
	w.keys = append(w.keys, k)
	return nil
}

func (w *world) RotateKey(ctx context.Context, k token.Key, notAfter, retired time.Time) error {
	for i := range w.keys {
		if w.keys[i].Kind == k.Kind {
			w.keys[i].NotAfter, w.keys[i].Retired = notAfter, retired
		}
	}
	return w.CreateKey(ctx, k)
}
func (w *world) Keys(context.Context) ([]token.Key, error) { return w.keys, nil }

var errAway = errors.New("the store is away")

// lock counts a read and fails while the store is away.
func (w *world) lock() (func(), error) {
	w.mu.Lock()
	w.reads++
	if w.away {
		w.mu.Unlock()
		return nil, errAway
	}
	return w.mu.Unlock, nil
}

func (w *world) SessionByReference(ctx context.Context, t id.Tenant, hash, host string) (session.Session, error) {
	w.mu.Lock()
	s, ok := w.refs[[3]string{string(t), hash, host}]
	hook := w.read
	w.mu.Unlock()
	if !ok {
		return session.Session{}, fault.New(fault.NotFound, "no such reference")
	}
	found, err := w.Session(ctx, t, s)
	if hook != nil {
		hook()
	}
	return found, err
}

func (w *world) Session(_ context.Context, _ id.Tenant, s id.Session) (session.Session, error) {
	unlock, err := w.lock()
	if err != nil {
		return session.Session{}, err
	}
	defer unlock()
	return w.sessions[s], nil
}

func (w *world) Touch(_ context.Context, _ id.Tenant, s id.Session, seen time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touches++
	kept := w.sessions[s]
	kept.LastSeen = seen
	w.sessions[s] = kept
	return nil
}

func (w *world) User(_ context.Context, t id.Tenant, u id.User) (identity.User, error) {
	unlock, err := w.lock()
	if err != nil {
		return identity.User{}, err
	}
	defer unlock()
	found, ok := w.users[u]
	if !ok || found.Tenant != t {
		return identity.User{}, fault.New(fault.NotFound, "no such user")
	}
	return found, nil
}

func (w *world) ServiceToken(_ context.Context, t id.Tenant, k id.Token) (token.ServiceToken, error) {
	unlock, err := w.lock()
	if err != nil {
		return token.ServiceToken{}, err
	}
	defer unlock()
	found, ok := w.tokens[k]
	if !ok || found.Tenant != t {
		return token.ServiceToken{}, fault.New(fault.NotFound, "no such token")
	}
	return found, nil
}

func (w *world) TouchServiceToken(context.Context, id.Tenant, id.Token, time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touches++
	return nil
}

func (w *world) Apps(context.Context, id.Tenant) ([]tenant.App, error) {
	unlock, err := w.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return w.apps, nil
}

func (w *world) Decide(_ context.Context, d audit.Decision) (int64, error) {
	w.mu.Lock()
	hook := w.recording
	w.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return 0, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recorded = append(w.recorded, d)
	return int64(len(w.recorded)), nil
}

// changed makes a change and tells of it, as the store and the follower do.
func (w *world) changed(t testing.TB, kind change.Kind, name string, make func()) {
	t.Helper()
	w.mu.Lock()
	make()
	w.mu.Unlock()
	if err := w.follow(context.Background(), []change.Change{{Tenant: "maple", Kind: kind, ID: name}}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) revoke(t testing.TB, s id.Session, at time.Time) {
	t.Helper()
	w.changed(t, change.Session, string(s), func() {
		kept := w.sessions[s]
		kept.Revoked = at
		w.sessions[s] = kept
	})
}

// signIn makes a session of lee and returns the cookie's value.
func (w *world) signIn(s id.Session, now time.Time) string {
	value := session.NewSecret()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s] = session.Session{
		Tenant: "maple", ID: s, User: lee.ID, Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}
	w.refs[[3]string{"maple", secret.Hash(value), "oscar.maple.example"}] = s
	return value
}

// service makes a token for the service booking.
func (w *world) service(t testing.TB, now time.Time, change func(*token.Claims)) string {
	t.Helper()
	k := id.NewToken()
	c := token.Claims{
		Issuer: session.Issuer(maple.SignInHost), Subject: "booking", Audience: []string{session.ServiceAudience("maple")},
		IssuedAt: now, Expires: now.Add(time.Hour), ID: string(k), Tenant: "maple", Kind: "service",
	}
	if change != nil {
		change(&c)
	}
	raw, err := w.ring.Mint(token.Service, c)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[k] = token.ServiceToken{Tenant: "maple", ID: k, Service: "booking", Created: now, Expires: now.Add(time.Hour), LastUsed: now}
	return raw
}

func get(target string, cookies ...string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(cookies); i += 2 {
		r.AddCookie(&http.Cookie{Name: cookies[i], Value: cookies[i+1]})
	}
	return r
}

func withToken(raw string) *http.Request {
	r := get("/")
	r.Header.Set(access.TokenHeader, raw)
	return r
}

func question(who access.Identity, app tenant.App) access.Question {
	return access.Question{
		Identity: who, Tenant: maple, App: app, RequestID: id.NewRequest(),
		Request: policy.Request{Method: "GET", Host: app.Host, Path: "/oscar/x", ClientIP: "192.0.2.1"},
	}
}
