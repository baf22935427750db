package login

import (
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// codeForm is GET /code.
func (h signInHost) codeForm(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	text := query.Get("to")
	to := h.openDestination(h.t.ID, text)
	before, ok := h.askedBefore(r)
	if !ok {
		h.restart(w, r, http.StatusOK, text)
		return
	}
	page := web.Code{
		Door: h.doorTo(r, to), Email: before.Email, Minutes: int(emailotp.Life / time.Minute),
		Problem: problemOf(query.Get("problem")), Sent: query.Get("sent") == "again",
	}
	if to != nil {
		page.To = text
		// The answer to this form leads there, and Chromium holds form-action against redirects too.
		page.FormAction = []string{h.URL(to.Host)}
	}
	h.Pages.Code(w, r, http.StatusOK, page)
}

// problemOf maps the few values that the query may carry to words; nothing else of it is ever shown.
func problemOf(value string) string {
	switch value {
	case "wrong":
		return "code.wrong"
	case "form":
		return "code.form"
	case "wait":
		return "code.too-many"
	case "limit":
		return "code.again.limit"
	}
	return ""
}

// tryCode is POST /code: the right digits in the browser that asked make a session.
func (h signInHost) tryCode(w http.ResponseWriter, r *http.Request) {
	before, text, ok := h.goingOn(w, r)
	if !ok {
		return
	}
	digits, ok := readDigits(r.PostForm.Get("code"))
	if !ok {
		h.Pages.Redirect(w, h.withTo("/code?problem=form", text))
		return
	}
	code, err := h.Codes.Try(r.Context(), h.asker(r, before.Browser), digits)
	switch {
	case fault.Is(err, fault.Denied):
		h.count("wrong")
		h.Pages.Redirect(w, h.withTo("/code?problem=wrong", text))
	case fault.Is(err, fault.Exhausted):
		h.count("throttled")
		h.Pages.Redirect(w, h.withTo("/code?problem=wait", text))
	case err != nil:
		h.failed(w, r, h.doorTo(r, nil), h.t.ID, false, err)
	default:
		h.signIn(w, r, code)
	}
}

// readDigits takes the code as people type or paste it: blanks and hyphens do not count.
func readDigits(typed string) (string, bool) {
	digits := strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' || c == '\u00a0' || c == '\t' {
			return -1
		}
		return c
	}, typed)
	if len(digits) != emailotp.Digits || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	return digits, true
}

// signIn makes the session of a spent code and goes on to where the code was asked for.
func (h signInHost) signIn(w http.ResponseWriter, r *http.Request, code emailotp.Code) {
	ctx := r.Context()
	text := string(code.Return)
	to := h.openDestination(h.t.ID, text)
	user, err := h.Users.User(ctx, h.t.ID, code.User)
	if fault.Is(err, fault.NotFound) || err == nil && user.Disabled {
		h.count("wrong") // deleted or disabled since the code was sent
		h.Pages.Redirect(w, h.withTo("/code?problem=wrong", text))
		return
	}
	if err != nil {
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
		return
	}
	// A sign-in replaces what was there: two people at one screen never share a session.
	if old, err := h.signedIn(r); err == nil {
		if err := h.Sessions.End(ctx, h.t.ID, old.ID); err != nil {
			h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
			return
		}
	}
	s, reference, err := h.Sessions.Create(ctx, session.Login{
		Tenant: h.t.ID, User: user.ID, Methods: []string{emailotp.Method}, SignInHost: h.t.SignInHost,
		Client: clientFamily(r.UserAgent()), Source: session.SourceOf(r.RemoteAddr),
	})
	if fault.Is(err, fault.Denied) || fault.Is(err, fault.NotFound) {
		h.count("wrong") // disabled or deleted just now
		h.Pages.Redirect(w, h.withTo("/code?problem=wrong", text))
		return
	}
	if err != nil {
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
		return
	}
	known := session.ReferenceFrom(r, session.CookieKnown)
	if known == "" {
		known = session.NewSecret()
	}
	if err := h.Codes.Remember(ctx, h.t.ID, known, code); err != nil {
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
		return
	}
	h.count("signed_in")
	h.Logger.Info("signed in", log.Tenant(h.t.ID), log.Session(s.ID), log.RequestID(h.RequestID(r)))
	http.SetCookie(w, session.NewCookie(session.CookieReference, reference, 0))
	http.SetCookie(w, session.NewCookie(session.CookieKnown, known, session.KnownLife))
	http.SetCookie(w, session.Expired(session.CookieSignIn))
	if to == nil {
		h.Pages.Redirect(w, "/")
		return
	}
	h.goOn(w, r, s, text, to)
}
