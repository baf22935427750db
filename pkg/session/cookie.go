package session

import (
	"net/http"
	"strings"
	"time"
)

// The cookies of Sallyport. Browsers that know the prefix __Host-Http- take such a cookie from an HTTP answer only
// (draft-ietf-httpbis-layered-cookies): in Chromium 156 document.cookie ignores it, in any case, and cookieStore.set throws.
// To the others it is an ordinary __Host- cookie: this host only, Secure, Path=/; there a script can plant one where there is
// none, which is why redeem also looks at where a navigation started.
const (
	// CookieReference is a host's opaque reference to the session, on app hosts and on the sign-in host.
	CookieReference = "__Host-Http-sallyport"
	// CookieAccess is the access token, on app hosts.
	CookieAccess = "__Host-Http-sallyport-at"
	// CookieFlow binds a sign-in to the browser that began it, on app hosts.
	CookieFlow = "__Host-Http-sallyport-flow"
	// CookieSignIn binds an e-mailed code to the browser that asked for it, on the sign-in host.
	CookieSignIn = "__Host-Http-sallyport-signin"
	// CookieKnown marks a browser that signed in before, on the sign-in host; it identifies nobody.
	CookieKnown = "__Host-Http-sallyport-known"
)

// How long browsers keep them. The session itself is what counts; these only bound what lies around.
const (
	FlowLife  = time.Hour
	KnownLife = 400 * 24 * time.Hour // the longest that browsers allow (RFC 6265bis §5.5)
)

// IsOurs reports whether a cookie name belongs to Sallyport or could be taken for one of ours: such cookies never reach an
// origin, and an origin never sets one.
func IsOurs(name string) bool {
	lower := strings.ToLower(name)
	for _, prefix := range []string{"__host-http-sallyport", "__host-sallyport", "__http-sallyport", "__secure-sallyport"} {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return false
}

// NewCookie returns one of our cookies: HttpOnly, Secure, Path=/, no Domain, SameSite=Lax. life 0 makes it end with the
// browser's own session. Lax, not Strict, because the way back from the sign-in host is a cross-site navigation.
func NewCookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// Expired returns the cookie that removes one of ours.
func Expired(name string) *http.Cookie {
	c := NewCookie(name, "", 0)
	c.MaxAge = -1
	return c
}

// ReferenceFrom returns the value of a request's cookie of this name if there is exactly one and it has the form of our
// random values; "" otherwise. Two of one name are a sign of tossing and count as none.
func ReferenceFrom(r *http.Request, name string) string {
	found := r.CookiesNamed(name)
	if len(found) != 1 || !wellFormed(found[0].Value) {
		return ""
	}
	return found[0].Value
}
