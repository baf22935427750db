package login

import (
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// asked is what the sign-in cookie holds, sealed: the secret that binds the code to this browser, and the address, so that
// the code can be sent again.
type asked struct {
	Browser string `json:"b"`
	Email   string `json:"e"`
}

// ask is POST /email.
func (h signInHost) ask(w http.ResponseWriter, r *http.Request) {
	if r.ParseForm() != nil {
		h.restart(w, r, http.StatusBadRequest, "")
		return
	}
	text, email := r.PostForm.Get("to"), r.PostForm.Get("email")
	h.send(w, r, text, email, "/code", func(status int, problem string) {
		to := h.openDestination(h.t.ID, text)
		if to == nil {
			text = ""
		}
		h.Pages.SignIn(w, r, status, web.SignIn{Door: h.doorTo(r, to), To: text, Email: email, Problem: "signin." + problem})
	})
}

// askAgain is POST /again: another code to the same address. Failed tries of the account go on counting.
func (h signInHost) askAgain(w http.ResponseWriter, r *http.Request) {
	before, text, ok := h.goingOn(w, r)
	if !ok {
		return
	}
	h.send(w, r, text, before.Email, "/code?sent=again", func(int, string) {
		h.Pages.Redirect(w, h.withTo("/code?problem=limit", text))
	})
}

// send makes a code, queues the mail and goes on to next. What follows is the same for addresses that nobody has: the same
// row, the same cookie, the same answer; only the queue's entry is missing, and the queue is not waited for.
func (h signInHost) send(w http.ResponseWriter, r *http.Request, text, email, next string, refuse func(status int, problem string)) {
	before, ok := h.askedBefore(r)
	if !ok {
		before.Browser = session.NewSecret()
	}
	issued, err := h.Codes.Ask(r.Context(), h.asker(r, before.Browser), email, []byte(text))
	switch {
	case fault.Is(err, fault.Invalid):
		refuse(http.StatusUnprocessableEntity, "bad-address")
		return
	case fault.Is(err, fault.Exhausted):
		h.count("throttled")
		w.Header().Set("Retry-After", "600")
		refuse(http.StatusTooManyRequests, "too-many")
		return
	case err != nil:
		h.failed(w, r, h.doorTo(r, nil), h.t.ID, false, err)
		return
	}
	cookie, err := h.sealJSON(h.t.ID, "asked", asked{Browser: before.Browser, Email: issued.To})
	if err != nil {
		h.failed(w, r, h.doorTo(r, nil), h.t.ID, false, err)
		return
	}
	h.count("asked")
	message := h.Texts.Code(issued.To, h.t.Name, h.t.SignInHost, issued.Digits, emailotp.Life)
	if issued.Deliver {
		if err := h.Outbox.Enqueue(message); err != nil {
			// The person sees the same page as everybody; the operator sees this.
			h.count("mail_overflow")
			h.Logger.Error("sign-in mail not queued", log.Tenant(h.t.ID), log.RequestID(h.RequestID(r)), zap.Error(err))
		}
	}
	http.SetCookie(w, session.NewCookie(session.CookieSignIn, cookie, session.FlowLife))
	h.Pages.Redirect(w, h.withTo(next, text))
}

// withTo appends the destination to a path of this host, if it is one of ours.
func (h signInHost) withTo(path, text string) string {
	if h.openDestination(h.t.ID, text) == nil {
		return path
	}
	u, err := url.Parse(path)
	if err != nil {
		return "/"
	}
	q := u.Query()
	q.Set("to", text)
	u.RawQuery = q.Encode()
	return u.String()
}

// goingOn reads the form of somebody who asked for a code in this browser before, and where they want to go; whoever did not
// is sent to begin again, and ok is false.
func (h signInHost) goingOn(w http.ResponseWriter, r *http.Request) (before asked, to string, ok bool) {
	if r.ParseForm() != nil {
		h.restart(w, r, http.StatusBadRequest, "")
		return asked{}, "", false
	}
	to = r.PostForm.Get("to")
	if before, ok = h.askedBefore(r); !ok {
		h.restart(w, r, http.StatusForbidden, to)
	}
	return before, to, ok
}

// askedBefore opens the sign-in cookie.
func (h signInHost) askedBefore(r *http.Request) (asked, bool) {
	var a asked
	found := r.CookiesNamed(session.CookieSignIn)
	if len(found) != 1 || !h.openJSON(h.t.ID, "asked", found[0].Value, &a) {
		return asked{}, false
	}
	return a, true
}

func (h signInHost) asker(r *http.Request, browser string) emailotp.Asker {
	return emailotp.Asker{
		Tenant: h.t.ID, Browser: browser, Known: session.ReferenceFrom(r, session.CookieKnown), Source: session.SourceOf(r.RemoteAddr),
	}
}
