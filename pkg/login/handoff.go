package login

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// goOn sends a signed-in browser to the app host with a code to spend there.
func (h signInHost) goOn(w http.ResponseWriter, r *http.Request, s session.Session, text string, to *destination) {
	if h.expired(to) {
		// The flow cookie is as old; the app host begins anew, which takes nothing from somebody who is signed in.
		h.Pages.Redirect(w, h.URL(to.Host)+to.Target)
		return
	}
	if err := h.Sessions.Touch(r.Context(), s); err != nil {
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
		return
	}
	code, err := h.Sessions.Handoff(r.Context(), s, to.Host, to.Flow)
	if err != nil {
		h.failed(w, r, h.doorTo(r, to), h.t.ID, false, err)
		return
	}
	h.count("handed_off")
	// Whoever opened this window must not see where it goes: a script of the app host could begin this with a flow of
	// somebody else, who then spends the code. Browsers hold a redirect to this too (HTML, "obtain a cross-origin opener
	// policy").
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Pages.Redirect(w, h.URL(to.Host)+web.Prefix+"redeem?code="+code+"&to="+text)
}
