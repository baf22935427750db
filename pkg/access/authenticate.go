package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// TokenHeader is where a service puts its token. Authorization is not ours: the origin reads any as OAuth.
const TokenHeader = "Sallyport-Access-Token"

// renewBefore is how long before its end an access token is replaced, so that no page ends up between two.
const renewBefore = time.Minute

// Identity is who is asking and how that is known. The zero value is nobody.
type Identity struct {
	Principal      policy.Principal
	Authentication policy.Authentication
	// Session is set for people; not to be changed.
	Session *session.Session
	// SetCookies go into the answer: an access token that was minted again.
	SetCookies []*http.Cookie

	login   *login
	machine *machine
	// passive requests happen without anybody there; they do not keep a session alive.
	passive bool
}

// Authenticate finds out who is asking for app. Errors: fault.Unauthentic for nobody, or for credentials that have ended or
// are not good; fault.Invalid for two credentials that name different principals, or one that is given twice;
// fault.Unavailable, with ErrUnchecked behind it, when the store does not answer and no copy stands in for it. Refusals of strangers are counted, not recorded: nobody unknown can make
// the edge write.
func (a *Access) Authenticate(r *http.Request, t tenant.Tenant, app tenant.App) (Identity, error) {
	who, err := a.authenticate(r, t, app)
	if fault.Is(err, fault.Unauthentic) || fault.Is(err, fault.Invalid) {
		a.stranger(t.ID, r.RemoteAddr, string(fault.CodeOf(err)))
	}
	return who, err
}

// Known reports whether r shows a credential that is in memory, good at least until it was looked at last. To check any
// other costs a look at the store or a signature, which a stranger can cause with rubbish: the caller counts those requests
// first.
func (a *Access) Known(r *http.Request, t tenant.Tenant, app tenant.App) bool {
	if tokens := r.Header[TokenHeader]; len(tokens) == 1 {
		return len(tokens[0]) <= token.MaxBytes && a.machines.has(machineKeyOf(t.ID, tokens[0]))
	}
	reference := session.ReferenceFrom(r, session.CookieReference)
	return reference != "" && a.logins.has(loginKey{t.ID, secret.Hash(reference), app.Host})
}

func (a *Access) authenticate(r *http.Request, t tenant.Tenant, app tenant.App) (Identity, error) {
	if app.Tenant != t.ID || t.ID == "" {
		return Identity{}, fault.New(fault.Denied, "this app is not the clinic's")
	}
	tokens := r.Header[TokenHeader]
	switch {
	case len(tokens) > 1:
		return Identity{}, fault.New(fault.Invalid, "more than one %s", TokenHeader)
	case len(tokens) == 1 && (len(r.CookiesNamed(session.CookieReference)) > 0 || len(r.CookiesNamed(session.CookieAccess)) > 0):
		// A service and a person are never the same principal; which one is meant is not for us to choose.
		return Identity{}, fault.New(fault.Invalid, "a service token and a sign-in in one request")
	case len(tokens) == 1:
		return a.service(r, tokens[0], t)
	default:
		return a.person(r, t, app)
	}
}

func (a *Access) service(r *http.Request, raw string, t tenant.Tenant) (Identity, error) {
	if err := a.graceOver(); err != nil {
		return Identity{}, err
	}
	m, err := a.machine(r.Context(), raw, t)
	if err != nil {
		return Identity{}, err
	}
	a.usedToken(r.Context(), m)
	return Identity{
		Principal: policy.Principal{
			Kind: policy.ServicePrincipal, ID: m.claims.Subject, Issuer: m.claims.Issuer, Subject: m.claims.Subject,
		},
		Authentication: policy.Authentication{Token: m.record.ID, Methods: m.claims.Methods, At: m.claims.IssuedAt},
		machine:        m,
	}, nil
}

// person trusts the reference, behind which the session is looked up on every request. The access token beside it may be
// missing or have ended, and is then minted again; one that is anything else than good sends to sign-in.
func (a *Access) person(r *http.Request, t tenant.Tenant, app tenant.App) (Identity, error) {
	reference := session.ReferenceFrom(r, session.CookieReference)
	if reference == "" {
		return Identity{}, errStranger
	}
	if err := a.graceOver(); err != nil {
		return Identity{}, err
	}
	l, err := a.login(r.Context(), loginKey{t.ID, secret.Hash(reference), app.Host})
	if err != nil {
		return Identity{}, err
	}
	renew, err := a.checkAccess(r, l, t)
	if err != nil {
		return Identity{}, err
	}
	who := Identity{
		Principal: policy.Principal{
			Kind: policy.UserPrincipal, ID: string(l.user.ID), Issuer: l.user.Issuer, Subject: l.user.Subject,
		},
		Authentication: policy.Authentication{Session: l.session.ID, Methods: l.session.Methods, At: l.session.Created},
		Session:        &l.session,
		login:          l,
		passive:        isPoll(r.URL.Path, r.URL.RawQuery),
	}
	if renew {
		if who.SetCookies, err = a.mintAccess(l, t); err != nil {
			return Identity{}, err
		}
	}
	if !who.passive {
		a.used(r.Context(), l)
	}
	return who, nil
}

// checkAccess checks the access token against the login and reports whether a new one is due.
func (a *Access) checkAccess(r *http.Request, l *login, t tenant.Tenant) (renew bool, err error) {
	cookies := r.CookiesNamed(session.CookieAccess)
	if len(cookies) == 0 {
		return true, nil
	}
	if len(cookies) > 1 || len(cookies[0].Value) > token.MaxBytes {
		return false, errStranger
	}
	now := a.cfg.Now()
	raw := cookies[0].Value
	sum := sha256.Sum256([]byte(raw))
	if c := l.checked.Load(); c != nil && c.sum == sum && now.Before(c.expires) {
		return c.expires.Sub(now) < renewBefore, nil
	}
	want := token.Expect{Issuer: session.Issuer(t.SignInHost), Audience: session.Audience(t.ID, l.key.host), Tenant: t.ID}
	claims, err := a.cfg.Keys.Verifier(token.Access).Verify(raw, want, now)
	switch {
	case errors.Is(err, token.ErrExpired), errors.Is(err, token.ErrRetired), errors.Is(err, token.ErrEarly):
		// Without any it would be minted anew just so. A retired key is one that was withdrawn, and everybody has such a token then.
		return true, nil
	case err != nil:
		return false, errStranger.Because(err)
	case claims.Subject != string(l.user.ID) || claims.Kind != string(policy.UserPrincipal):
		return false, fault.New(fault.Invalid, "two sign-ins of different people in one request")
	case claims.Session != l.session.ID:
		return true, nil // the same person's former session
	}
	l.checked.Store(&checkedToken{sum, claims.Expires})
	return claims.Expires.Sub(now) < renewBefore, nil
}

func (a *Access) mintAccess(l *login, t tenant.Tenant) ([]*http.Cookie, error) {
	now := a.cfg.Now()
	raw, err := a.cfg.Keys.Mint(token.Access, token.Claims{
		Issuer: session.Issuer(t.SignInHost), Subject: string(l.user.ID), Audience: []string{session.Audience(t.ID, l.key.host)},
		IssuedAt: now, Expires: earlier(now.Add(token.AccessLife), l.session.Expires), Tenant: t.ID, Session: l.session.ID,
		Kind: string(policy.UserPrincipal), Methods: l.session.Methods,
	})
	if err != nil {
		return nil, fault.New(fault.Unavailable, "no access token can be made just now").Because(err)
	}
	return []*http.Cookie{session.NewCookie(session.CookieAccess, raw, token.AccessLife)}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// recheck asks again, after a lease was taken out, whether the identity still holds: a change between the two is seen here,
// a later one by the lease.
func (a *Access) recheck(ctx context.Context, who Identity, t tenant.Tenant) error {
	if err := a.graceOver(); err != nil {
		return err
	}
	switch {
	case who.login != nil && a.revokedLogin(who.login):
		return errStranger
	case who.machine != nil && a.revokedMachine(who.machine):
		return errBadToken
	case who.login != nil:
		l, err := a.login(ctx, who.login.key)
		if err == nil && (l.session.ID != who.login.session.ID || l.user.ID != who.login.user.ID) {
			return errStranger
		}
		return err
	case who.machine != nil:
		m, err := a.machines.get(ctx, who.machine.key, func(ctx context.Context, before *machine) (*machine, error) {
			return a.rereadMachine(ctx, who.machine)
		})
		if err == nil && !m.live(a.cfg.Now()) {
			return errBadToken
		}
		return err
	default:
		return errStranger
	}
}

// rereadMachine reads the record of a token whose signature was good a moment ago.
func (a *Access) rereadMachine(ctx context.Context, m *machine) (*machine, error) {
	record, err := a.cfg.Services.ServiceToken(ctx, m.key.tenant, m.record.ID)
	if err != nil {
		return nil, lookup(err, errBadToken)
	}
	return &machine{key: m.key, claims: m.claims, record: record, touched: m.touched}, nil
}
