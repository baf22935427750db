package access

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// SessionOf says without the store which session a request on an app's host shows: from the copy of it, or from the access token, if that
// is good. It is for a person who leaves while the store is away, and opens nothing.
func (a *Access) SessionOf(r *http.Request, t tenant.Tenant, app tenant.App) (id.Session, bool) {
	reference := session.ReferenceFrom(r, session.CookieReference)
	if reference == "" || app.Tenant != t.ID {
		return "", false
	}
	if l, ok := a.logins.peek(loginKey{t.ID, secret.Hash(reference), app.Host}); ok {
		return l.session.ID, true
	}
	cookies := r.CookiesNamed(session.CookieAccess)
	if len(cookies) != 1 || len(cookies[0].Value) > token.MaxBytes {
		return "", false
	}
	want := token.Expect{Issuer: session.Issuer(t.SignInHost), Audience: session.Audience(t.ID, app.Host), Tenant: t.ID}
	claims, err := a.cfg.Keys.Verifier(token.Access).Verify(cookies[0].Value, want, a.cfg.Now())
	if err != nil {
		return "", false
	}
	return claims.Session, claims.Session != ""
}
