package login

import (
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// Challenge answers a request to an app that carries no live session, in the one way that fits it: a person's navigation
// begins a sign-in; a form that was sent is told that nothing was saved; a frame gets words instead of a page that may not
// be framed; a script gets 401 and JSON. target is the canonical path and query.
func (l *Login) Challenge(w http.ResponseWriter, r *http.Request, t tenant.Tenant, app tenant.App, target string) {
	door := l.door(r, t, app)
	beside := web.Notice{Door: door, Status: http.StatusUnauthorized, URL: web.Prefix + "sign-in", NewWindow: true, OnAppHost: true}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !web.WantsPage(r):
		l.Pages.NotSignedIn(w, r, door)
	case !safe:
		beside.Name = web.NoticeNotSaved
		l.Pages.Notice(w, r, beside)
	case framed(r):
		beside.Name = web.NoticeFrame
		l.Pages.Notice(w, r, beside)
	default:
		l.Begin(w, r, t, app, target)
	}
}

// TokenRefused answers a service whose token is not good.
func (l *Login) TokenRefused(w http.ResponseWriter, r *http.Request, t tenant.Tenant, app tenant.App) {
	l.Pages.TokenRefused(w, r, l.door(r, t, app))
}

func framed(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return dest != "" && dest != "document"
}

// Begin starts a sign-in for target, a path and query on the app's host: it gives the browser a flow cookie and sends it to
// the sign-in host. The caller decided that this is a person's navigation (or uses Challenge).
func (l *Login) Begin(w http.ResponseWriter, r *http.Request, t tenant.Tenant, app tenant.App, target string) {
	// Several windows that begin at once share one flow; each has a code of its own.
	flow := session.ReferenceFrom(r, session.CookieFlow)
	if flow == "" {
		flow = session.NewSecret()
	}
	site := r.Header.Get("Sec-Fetch-Site")
	d := destination{
		App: app.ID, Name: app.Name, Host: app.Host, Target: landing(target, app.Path), Flow: secret.Hash(flow),
		Expires: l.Now().Add(destinationLife), Direct: site == "none" || site == "same-origin",
	}
	to, err := l.sealJSON(t.ID, "to", d)
	if err == nil && len(to) > maxCarried {
		d.Target = app.Path
		to, err = l.sealJSON(t.ID, "to", d)
	}
	if err != nil {
		l.failed(w, r, l.door(r, t, app), t.ID, true, err)
		return
	}
	http.SetCookie(w, session.NewCookie(session.CookieFlow, flow, session.FlowLife))
	l.Pages.Redirect(w, l.URL(t.SignInHost)+"/?to="+to)
}

func (l *Login) door(r *http.Request, t tenant.Tenant, app tenant.App) web.Door {
	return web.Door{Clinic: t.Name, App: app.Name, Host: app.Host, RequestID: l.RequestID(r)}
}

// prefetched is true for requests that a browser makes on suspicion: they must neither spend nor end anything.
func prefetched(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Sec-Purpose"), "prefetch") || r.Header.Get("Purpose") == "prefetch"
}
