package login

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// signInHost is one tenant's sign-in host.
type signInHost struct {
	*Login
	t tenant.Tenant
}

// SignInHost returns the whole sign-in host of a tenant. Nothing on it is ever proxied.
func (l *Login) SignInHost(t tenant.Tenant) http.Handler { return signInHost{l, t} }

func (h signInHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	if unsafe(r) && !fromHere(r) {
		h.count("refused")
		h.Pages.SignIn(w, r, http.StatusForbidden, web.SignIn{Door: h.doorTo(r, nil), Problem: "signin.elsewhere"})
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch r.URL.Path {
	case "/", "/email", "/again", "/code":
		if h.Away() {
			h.paused(w, r, h.doorTo(r, nil), false)
			return
		}
	}
	switch method + " " + r.URL.Path {
	case "GET /":
		h.form(w, r)
	case "POST /email":
		h.ask(w, r)
	case "POST /again":
		h.askAgain(w, r)
	case "GET /code":
		h.codeForm(w, r)
	case "POST /code":
		h.tryCode(w, r)
	case "POST /sign-out":
		h.signOut(w, r)
	case "GET /signed-out":
		h.signedOut(w, r)
	case "GET /email", "GET /again", "GET /sign-out":
		// Somebody reloaded or bookmarked the answer to a form.
		h.Pages.Redirect(w, "/")
	case "GET " + h.Pages.StylePath():
		h.Pages.Style().ServeHTTP(w, r)
	case "GET /.well-known/jwks.json":
		h.jwks(w, r)
	case "GET /favicon.ico":
		w.Header().Set("Cache-Control", "public, max-age=86400")
		w.WriteHeader(http.StatusNoContent)
	default:
		h.Pages.Error(w, r, web.Problem{Code: "E-NOT-FOUND", Clinic: h.t.Name, RequestID: h.RequestID(r), SignInHost: true})
	}
}

func (h signInHost) jwks(w http.ResponseWriter, r *http.Request) {
	if h.JWKS == nil {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/jwk-set+json")
	header.Set("Cache-Control", "public, max-age=300")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(h.JWKS())
}

// unsafe reports whether a method may change something (RFC 9110 §9.2.1).
func unsafe(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
}

// fromHere reports whether a page of this very origin sent an unsafe request. The standard library's check lets requests
// pass that carry neither header; every browser that can sign in sends one of them.
func fromHere(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return false
	}
	return http.NewCrossOriginProtection().Check(r) == nil
}

// doorTo says on a page of the sign-in host where its reader is going.
func (h signInHost) doorTo(r *http.Request, to *destination) web.Door {
	d := web.Door{Clinic: h.t.Name, RequestID: h.RequestID(r)}
	if to != nil {
		d.App, d.Host = to.Name, to.Host
	}
	return d
}

// restart is the page for forms and cookies that are too old or incomplete: it never leaves anybody in a dead end.
func (h signInHost) restart(w http.ResponseWriter, r *http.Request, status int, to string) {
	url := "/"
	d := h.openDestination(h.t.ID, to)
	if d != nil {
		url = "/?to=" + to // opened, so it is base64url of ours
	}
	h.Pages.Notice(w, r, web.Notice{Door: h.doorTo(r, d), Status: status, Name: web.NoticeExpired, URL: url})
}
