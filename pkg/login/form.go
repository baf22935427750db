package login

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// form is GET /: whoever is signed in goes straight on; the others are asked who they are.
func (h signInHost) form(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("to")
	to := h.openDestination(h.t.ID, text)
	s, err := h.signedIn(r)
	switch {
	case err != nil && !fault.Is(err, fault.Unauthentic):
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
	case err == nil && to != nil && shown(r):
		h.goOn(w, r, s, text, to)
	case err == nil:
		h.home(w, r, s)
	default:
		if len(r.CookiesNamed(session.CookieReference)) > 0 {
			http.SetCookie(w, session.Expired(session.CookieReference))
		}
		page := web.SignIn{Door: h.doorTo(r, to), To: text}
		if to == nil {
			page.To = ""
		}
		h.Pages.SignIn(w, r, http.StatusOK, page)
	}
}

// shown reports whether the answer is a page that the person sees as a whole. Frames, scripts' requests and prefetches have
// no business with a code.
func shown(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return r.Method == http.MethodGet && (mode == "" || mode == "navigate") && !framed(r) && !prefetched(r)
}

// signedIn returns the live session of this host's reference.
func (h signInHost) signedIn(r *http.Request) (session.Session, error) {
	ref := session.ReferenceFrom(r, session.CookieReference)
	return h.Sessions.Lookup(r.Context(), h.t.ID, ref, h.t.SignInHost)
}

// home is what somebody sees who is signed in and asked for no app.
func (h signInHost) home(w http.ResponseWriter, r *http.Request, s session.Session) {
	page := web.SignedIn{Door: h.doorTo(r, nil)}
	user, err := h.Users.User(r.Context(), h.t.ID, s.User)
	if err != nil {
		h.failed(w, r, page.Door, h.t.ID, false, err)
		return
	}
	page.Email = user.Email
	if h.Apps != nil {
		apps, err := h.Apps.Apps(r.Context(), h.t.ID)
		if err != nil {
			h.failed(w, r, page.Door, h.t.ID, false, err)
			return
		}
		for _, a := range apps {
			page.Apps = append(page.Apps, web.Link{Text: a.Name, URL: h.URL(a.Host) + a.Path})
		}
	}
	h.Pages.SignedIn(w, r, page)
}
