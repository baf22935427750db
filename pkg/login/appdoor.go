package login

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// appDoor is what Sallyport itself serves on one app's host, below web.Prefix.
type appDoor struct {
	*Login
	app tenant.App
	t   tenant.Tenant
}

// AppDoor returns the handler for everything below web.Prefix on an app's host. None of it is ever forwarded.
func (l *Login) AppDoor(app tenant.App, t tenant.Tenant) http.Handler { return appDoor{l, app, t} }

func (h appDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	if unsafe(r) && !fromHere(r) {
		h.count("refused")
		h.problem(w, r, "E-CROSS-SITE")
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch r.URL.Path {
	case web.Prefix + "redeem", web.Prefix + "sign-in":
		if h.Away() {
			h.paused(w, r, h.here(r), true)
			return
		}
	}
	switch method + " " + r.URL.Path {
	case "GET " + web.Prefix + "redeem":
		h.redeem(w, r)
	case "GET " + elsewherePath:
		h.notice(w, r, http.StatusForbidden, web.NoticeElsewhere, h.app.Path)
	case "GET " + web.Prefix + "sign-in":
		h.signInBeside(w, r)
	case "GET " + backPath:
		h.notice(w, r, http.StatusOK, web.NoticeBack, h.app.Path)
	case "GET " + web.Prefix + "sign-out":
		h.askSignOut(w, r)
	case "POST " + web.Prefix + "sign-out":
		h.signOut(w, r)
	case "GET " + web.Prefix + "signed-out":
		h.notice(w, r, http.StatusOK, web.NoticeSignedOut, h.app.Path)
	case "GET " + web.Prefix + "session":
		h.sessionInfo(w, r)
	case "POST " + web.Prefix + "clear":
		h.clear(w, r)
	case "GET " + web.Prefix + "clear":
		h.Pages.TooBig(w, r, h.here(r))
	case "GET " + h.Pages.StylePath():
		h.Pages.Style().ServeHTTP(w, r)
	default:
		h.problem(w, r, "E-NOT-FOUND")
	}
}

func (h appDoor) here(r *http.Request) web.Door { return h.door(r, h.t, h.app) }

func (h appDoor) problem(w http.ResponseWriter, r *http.Request, code string) {
	h.Pages.Error(w, r, web.Problem{Code: code, Clinic: h.t.Name, App: h.app.Name, RequestID: h.RequestID(r)})
}

func (h appDoor) notice(w http.ResponseWriter, r *http.Request, status int, name, url string) {
	h.Pages.Notice(w, r, web.Notice{Door: h.here(r), Status: status, Name: name, URL: url, OnAppHost: true})
}

// signedIn returns the live session of this host's reference.
func (h appDoor) signedIn(r *http.Request) (session.Session, error) {
	ref := session.ReferenceFrom(r, session.CookieReference)
	return h.Sessions.Lookup(r.Context(), h.t.ID, ref, h.app.Host)
}

// signInBeside is where a page with unsaved work sends its reader, in another window.
func (h appDoor) signInBeside(w http.ResponseWriter, r *http.Request) {
	_, err := h.signedIn(r)
	switch {
	case err == nil:
		h.Pages.Redirect(w, backPath)
	case fault.Is(err, fault.Unauthentic):
		h.Begin(w, r, h.t, h.app, backPath)
	default:
		h.failed(w, r, h.here(r), h.t.ID, true, err)
	}
}

// sessionInfo tells a page of the app how long it may go on. Asking does not count as use. Names and addresses are left
// out: scripts that users wrote can ask too.
func (h appDoor) sessionInfo(w http.ResponseWriter, r *http.Request) {
	s, err := h.signedIn(r)
	if fault.Is(err, fault.Unauthentic) {
		h.Pages.NotSignedIn(w, r, h.here(r))
		return
	}
	if err != nil {
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	body, err := json.Marshal(struct {
		User      id.User   `json:"user"`
		Until     time.Time `json:"until"`
		IdleUntil time.Time `json:"idle_until"`
	}{s.User, s.Expires.UTC(), s.LastSeen.Add(s.IdleFor).UTC()})
	if err != nil {
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	web.WriteJSON(w, http.StatusOK, body)
}
