package guard

import (
	"net/http"
	"net/url"
	pathpkg "path"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Verdict says what becomes of a request that another site may have made the browser send.
type Verdict int

// The verdicts. The zero value refuses.
const (
	// Forbid answers 403.
	Forbid Verdict = iota
	// Ask shows a page on the app's host that asks whether to go on; going on from there is a same-origin request.
	Ask
	// Pass lets it in.
	Pass
)

// CrossSite judges where a request for app comes from. The origin writes by GET, so that SameSite=Lax is not enough: a
// navigation from another site, sibling hosts included, reaches only the app's landing pages, everything else is asked
// about; a method that writes is refused. cookie says that the request carries one of ours: then a method that writes must
// say where it comes from at all.
func CrossSite(r *http.Request, app tenant.App, cookie bool) Verdict {
	if isWorkerScript(r) && !workerAllowed(r.URL.Path, app) {
		return Forbid
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	foreign := foreignOrigin(r)
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		if foreign {
			return Forbid // no browser says both
		}
		return Pass
	case "":
		return withoutMetadata(r, app, cookie, safe, foreign)
	}
	// same-site, cross-site, and whatever this version does not know.
	switch {
	case !safe:
		return Forbid
	case r.Header.Get("Sec-Fetch-Mode") == "navigate":
		if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Dest") != "document" {
			return Forbid // frames, objects
		}
		return navigation(r, app)
	case cookie:
		return Forbid
	default:
		return Pass // nobody is signed in by it; it is refused for that
	}
}

// withoutMetadata judges requests of programs and of browsers from before Fetch Metadata.
func withoutMetadata(r *http.Request, app tenant.App, cookie, safe, foreign bool) Verdict {
	switch {
	case foreign:
		return Forbid
	case !safe && cookie && r.Header.Get("Origin") == "":
		return Forbid
	case !safe || !cookie:
		return Pass
	}
	if ref := r.Header.Get("Referer"); ref != "" && !strings.HasPrefix(ref+"/", origin(r)+"/") {
		return navigation(r, app)
	}
	return Pass
}

func navigation(r *http.Request, app tenant.App) Verdict {
	if landing(r.URL.Path, r.URL.RawQuery, app) {
		return Pass
	}
	return Ask
}

// landing reports whether a link on any site may open path: "/" and the app's own root as they are, since a parameter could
// make them do something; and what the app lists.
func landing(path, query string, app tenant.App) bool {
	if query == "" && (path == "/" || path == app.Path || path == app.Path+"/") {
		return true
	}
	for _, l := range app.Landing {
		if prefix, ok := strings.CutSuffix(l, "/*"); ok {
			if strings.HasPrefix(path, prefix+"/") {
				return true
			}
		} else if path == l {
			return true
		}
	}
	return false
}

// foreignOrigin reports an Origin header that is not the request's own origin.
func foreignOrigin(r *http.Request) bool {
	o := r.Header.Get("Origin")
	return o != "" && !strings.EqualFold(strings.TrimSuffix(o, ":443"), origin(r))
}

// origin is the request's own origin (RFC 6454 §6.2): always https, port left out when it is 443.
func origin(r *http.Request) string {
	return "https://" + strings.TrimSuffix(strings.ToLower(r.Host), ":443")
}

func isWorkerScript(r *http.Request) bool {
	return len(r.Header["Service-Worker"]) > 0 || r.Header.Get("Sec-Fetch-Dest") == "serviceworker"
}

// workerAllowed reports whether a service worker may be registered from a script at path. A worker rules everything below
// its script's directory, so that must lie within the app and must not hold the paths where the edge itself answers.
func workerAllowed(path string, app tenant.App) bool {
	scope := pathpkg.Dir(pathpkg.Clean("/" + path))
	if decoded, err := url.PathUnescape(scope); err != nil || decoded != scope {
		return false
	}
	return scope != "/" && route.Under(scope, app.Path) && !route.Under(scope, route.Reserved)
}
