package login

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// redeem spends the code that the sign-in host gave to the browser. Three things keep a script of this host, or a foreign
// site, from signing somebody in as somebody else: the flow cookie, which no script can set where browsers know its
// prefix; the destination, sealed over that cookie and this host; and where the navigation started.
func (h appDoor) redeem(w http.ResponseWriter, r *http.Request) {
	if !arrivedFromSignIn(r) {
		h.refuseRedeem(w)
		return
	}
	query := r.URL.Query()
	flow := session.ReferenceFrom(r, session.CookieFlow)
	to := h.openDestination(h.t.ID, query.Get("to"))
	if flow == "" || to == nil || to.Host != h.app.Host || to.Flow != secret.Hash(flow) || h.expired(to) {
		h.refuseRedeem(w)
		return
	}
	s, reference, err := h.Sessions.Redeem(r.Context(), h.t.ID, query.Get("code"), h.app.Host, flow)
	if fault.Is(err, fault.Denied) {
		h.again(w, r, to)
		return
	}
	if err != nil {
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	access, err := h.mint(s)
	if err != nil {
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	samePerson, err := h.samePerson(r, s)
	if err != nil {
		h.failed(w, r, h.here(r), h.t.ID, true, err)
		return
	}
	if !samePerson {
		h.endOriginSession(w)
	}
	h.count("redeemed")
	h.Logger.Info("sign-in redeemed", log.Tenant(h.t.ID), log.Session(s.ID), log.App(to.App), log.RequestID(h.RequestID(r)))
	http.SetCookie(w, session.NewCookie(session.CookieReference, reference, 0))
	http.SetCookie(w, session.NewCookie(session.CookieAccess, access, token.AccessLife))
	h.open(w, r, to)
}

// arrivedFromSignIn refuses whatever cannot be the redirect from the sign-in host, as far as the browser tells: a navigation
// that this very host started, a frame, a script's request, a prefetch. A redirect by way of the sign-in host is same-site
// or cross-site whoever started it, and "none" after an own act (Fetch Metadata §2.1).
func arrivedFromSignIn(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") != "same-origin" && shown(r)
}

// refuseRedeem says so at another address: this one holds a code that may not be spent, and a script of this host can read
// the address of every page of it, in a frame, in a window that it opened, and in its own tab's history.
func (h appDoor) refuseRedeem(w http.ResponseWriter) {
	h.count("refused")
	h.Pages.Redirect(w, elsewherePath)
}

// elsewherePath is where a sign-in ends that this browser did not begin.
const elsewherePath = web.Prefix + "elsewhere"

// again handles a code that is spent: a reload by somebody who is signed in by now goes on; the rest start again.
func (h appDoor) again(w http.ResponseWriter, r *http.Request, to *destination) {
	_, err := h.signedIn(r)
	switch {
	case err == nil:
		h.open(w, r, to)
	case fault.Is(err, fault.Unauthentic):
		h.refuseRedeem(w)
	default:
		h.failed(w, r, h.here(r), h.t.ID, true, err)
	}
}

// open goes on to the target. After a redirect by way of the sign-in host the browser calls the next request cross-site, and
// the app's guard against foreign links would ask "continue?" after every sign-in. So a sign-in that began with the person's
// own act goes on from a page of this origin; one that a foreign site began is redirected, and asked about.
func (h appDoor) open(w http.ResponseWriter, r *http.Request, to *destination) {
	// Begin kept it below the app that was asked for, which need not be the one that this door stands for.
	target := landing(to.Target, "/")
	site := r.Header.Get("Sec-Fetch-Site")
	if site == "" || site == "none" || !to.Direct {
		h.Pages.Redirect(w, target)
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer") // the address of this page holds a code, if a spent one
	h.Pages.Notice(w, r, web.Notice{
		Door: h.here(r), Status: http.StatusOK, Name: web.NoticeOpening, URL: target, Refresh: target, OnAppHost: true,
	})
}

// mint makes the access token for this host.
func (h appDoor) mint(s session.Session) (string, error) {
	now := h.Now()
	expires := now.Add(token.AccessLife)
	if s.Expires.Before(expires) {
		expires = s.Expires
	}
	return h.Minter.Mint(token.Access, token.Claims{
		Issuer: session.Issuer(h.t.SignInHost), Subject: string(s.User), Audience: []string{session.Audience(h.t.ID, h.app.Host)},
		Expires: expires, IssuedAt: now, ID: string(id.NewToken()), Tenant: h.t.ID, Session: s.ID, Kind: "user", Methods: s.Methods,
	})
}

// samePerson reports whether the reference that this host's cookie held before, dead or alive, belongs to the same person.
func (h appDoor) samePerson(r *http.Request, s session.Session) (bool, error) {
	ref := session.ReferenceFrom(r, session.CookieReference)
	before, err := h.Sessions.Last(r.Context(), h.t.ID, ref, h.app.Host)
	if fault.Is(err, fault.Unauthentic) {
		return false, nil
	}
	return err == nil && before.User == s.User, err
}
