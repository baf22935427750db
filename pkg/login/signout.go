package login

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// Why no Clear-Site-Data at sign-out: "cookies" removes those of the whole registrable domain (W3C Clear Site Data §3.1),
// so on a shared base domain it would sign people out of other clinics and forget that this browser is known; "storage" would
// delete drafts that forms of the origin keep. Ours and the origin's session cookies are expired one by one instead. The
// button on the 431 page does use it: there the person asked for exactly that.

// askSignOut is GET on an app host: by the person's own act it signs out at once; when another site started it, or nobody
// can tell, it asks first.
func (h appDoor) askSignOut(w http.ResponseWriter, r *http.Request) {
	site := r.Header.Get("Sec-Fetch-Site")
	if (site == "same-origin" || site == "none") && r.Method == http.MethodGet && !framed(r) && !prefetched(r) && web.WantsPage(r) {
		h.signOut(w, r)
		return
	}
	h.Pages.Notice(w, r, web.Notice{
		Door: h.here(r), Status: http.StatusOK, Name: web.NoticeSignOut, URL: web.Prefix + "sign-out", Post: true, OnAppHost: true,
	})
}

// signOut ends the session on every host and forgets it here.
func (h appDoor) signOut(w http.ResponseWriter, r *http.Request) {
	s, err := h.leave(r, h.t.ID, h.app.Host, func() (id.Session, bool) { return h.Known(r, h.t, h.app) })
	if err != nil && !fault.Is(err, fault.Unauthentic) {
		// Saying "signed out" to somebody who is not would be worse than an error.
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	h.count("signed_out")
	h.Logger.Info("signed out", log.Tenant(h.t.ID), log.Session(s), log.RequestID(h.RequestID(r)))
	h.forget(w)
	h.endOriginSession(w)
	h.Pages.Redirect(w, web.Prefix+"signed-out")
}

// lookLimit is how long a sign-out waits for the store to say whose session it is, where this edge may know it too.
const lookLimit = 1500 * time.Millisecond

// leave ends the session of a host's reference and returns it. The store need not answer for that: which session it is, this edge may
// remember, or the access token tells (known), and End holds on to what cannot be written.
func (l *Login) leave(r *http.Request, t id.Tenant, host string, known func() (id.Session, bool)) (id.Session, error) {
	reference := session.ReferenceFrom(r, session.CookieReference)
	here, ok := l.Sessions.Remembered(t, reference, host)
	if !ok {
		here, ok = known()
	}
	if !ok || !l.Away() {
		ctx, limit := r.Context(), context.CancelFunc(func() {})
		if ok {
			ctx, limit = context.WithTimeout(ctx, lookLimit)
		}
		s, err := l.Sessions.Lookup(ctx, t, reference, host)
		limit()
		switch {
		case err == nil:
			here = s.ID
		case !ok || !fault.Is(err, fault.Unavailable):
			return "", err
		}
	}
	if err := l.End(r.Context(), t, here); err != nil {
		return "", err
	}
	l.Sessions.Remember(t, reference, host, here) // should the answer be lost, the same may be asked again
	return here, nil
}

func (h appDoor) forget(w http.ResponseWriter) {
	for _, name := range []string{session.CookieReference, session.CookieAccess, session.CookieFlow} {
		http.SetCookie(w, session.Expired(name))
	}
}

// endOriginSession expires the origin's session cookies wherever they may lie.
func (h appDoor) endOriginSession(w http.ResponseWriter) {
	for _, path := range h.originPaths() {
		for _, name := range h.OriginCookies {
			http.SetCookie(w, &http.Cookie{Name: name, Path: path, MaxAge: -1, Secure: true, HttpOnly: true})
		}
	}
}

// originPaths lists where the origin's cookies may lie. The browser does not send them to us, as their path is the
// application's own context (/oscar): that is the first segment of the app's path or of one of its landing pages, and where
// the app is the whole host nothing says which, so that the usual ones are taken.
func (h appDoor) originPaths() []string {
	paths := []string{"/"}
	if h.app.Path == "/" {
		paths = append(paths, "/oscar", "/oscar_mcmaster", "/oscar_15", "/kaiemr")
	}
	for _, p := range append([]string{h.app.Path}, h.app.Landing...) {
		first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		if first != "" && !strings.ContainsAny(first, ".;*") {
			paths = append(paths, "/"+first)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// maxCleared bounds the answer to rubbish; browsers keep no more than a few hundred cookies for a site.
const maxCleared = 200

// clear is the button of the 431 page: everything that this browser stores as cookies for the site goes.
func (h appDoor) clear(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Clear-Site-Data", `"cookies"`)
	h.forget(w)
	h.endOriginSession(w)
	// For browsers without Clear-Site-Data: at least those that came along.
	for i, c := range r.Cookies() {
		if session.IsOurs(c.Name) || i >= maxCleared {
			continue
		}
		for _, path := range h.originPaths() {
			http.SetCookie(w, &http.Cookie{Name: c.Name, Path: path, MaxAge: -1, Secure: true})
		}
	}
	h.Pages.Redirect(w, h.app.Path)
}

// signOut is POST /sign-out on the sign-in host.
func (h signInHost) signOut(w http.ResponseWriter, r *http.Request) {
	s, err := h.leave(r, h.t.ID, h.t.SignInHost, func() (id.Session, bool) { return "", false })
	if err != nil && !fault.Is(err, fault.Unauthentic) {
		h.failed(w, r, h.doorTo(r, nil), h.t.ID, false, err)
		return
	}
	h.count("signed_out")
	h.Logger.Info("signed out", log.Tenant(h.t.ID), log.Session(s), log.RequestID(h.RequestID(r)))
	// The known-browser cookie stays: it opens nothing, and keeps strangers from locking this browser's people out.
	http.SetCookie(w, session.Expired(session.CookieReference))
	http.SetCookie(w, session.Expired(session.CookieSignIn))
	h.Pages.Redirect(w, "/signed-out")
}

func (h signInHost) signedOut(w http.ResponseWriter, r *http.Request) {
	h.Pages.Notice(w, r, web.Notice{Door: h.doorTo(r, nil), Status: http.StatusOK, Name: web.NoticeSignedOut, URL: "/"})
}
