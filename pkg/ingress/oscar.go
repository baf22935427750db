package ingress

import (
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

const presetOSCAR = "oscar"

// defaultContext is where OSCAR is deployed unless a rule says otherwise.
const defaultContext = "/oscar"

// tomcatKeepAlive is below the 20 s after which Tomcat closes an unused connection: a request that meets that closing is
// lost, and since a GET may write it is not sent again.
const tomcatKeepAlive = 15 * time.Second

// internal lists what the preset never serves, below each context: pages that trust the address of whoever asks, machine
// diagnostics, and bulk interfaces meant for programs beside the server. One entry is a run of segments; a final "*" in a
// segment stands for the rest of that segment. What lies below an entry is refused too.
var internal = [][]string{
	{"eformviewforpdfgenerationservlet"},
	{"eformsignatureviewforpdfgenerationservlet"},
	{"eformimageviewforpdfgenerationservlet"},
	{"labviewforpdfgenerationservlet"},
	{"html2pdf"},
	{"prometheus"},
	{"openapi"},
	{"monitoring"},
	{"proxyeformnotification"},
	{"myoscar_login_tester*"},
	{"ws", "rs", "batch", "deactivate_demographics"},
	{"ws", "rs", "batch", "activate_demographics"},
	{"integrations", "aqs"},
	{"integrations", "icefall"},
	{"faxoutbound"},
}

// describing are the query parameters that make the service framework describe itself.
var describing = map[string]bool{"_wadl": true, "_type": true, "wsdl": true, "xsd": true}

// denies reports whether the preset refuses path (canonical, still escaped) with query for everyone. Names are compared
// without regard to case: Tomcat guards WEB-INF that way, and on a file system that ignores case a page answers to every
// spelling; no page that a clinic uses differs from these by case alone. Contexts are compared as they are.
func (r *Rule) denies(path, rawQuery string) bool {
	if r.Preset != presetOSCAR {
		return false
	}
	segments := fold(path)
	if protected(segments) {
		return true
	}
	served := false
	// All contexts that the path is under are asked: one may lie below another.
	for _, context := range r.Contexts {
		// A context is another one in other case: that request would reach the web application at the root instead.
		if !urlpath.HasPrefix(path, context) {
			continue
		}
		if r.refused(segments[len(fold(context)):], rawQuery) {
			return true
		}
		served = true
	}
	return !served && !atRoot(segments)
}

func (r *Rule) refused(below []string, rawQuery string) bool {
	for _, entry := range internal {
		if startsWith(below, entry) {
			return true
		}
	}
	if r.Descriptions || len(below) == 0 || below[0] != "ws" {
		return false
	}
	listing := len(below) == 1 || len(below) == 2 && (below[1] == "services" || below[1] == "rs")
	return listing || describes(rawQuery)
}

// atRoot lists what may be asked for outside the contexts: the bare host and what browsers fetch by themselves. Everything
// else there belongs to other web applications on the same Tomcat.
func atRoot(segments []string) bool {
	if len(segments) == 0 {
		return true
	}
	return len(segments) == 1 && (segments[0] == "favicon.ico" || segments[0] == "robots.txt")
}

// protected reports whether a segment names a web application's private directories (Servlet 6.0 §10.5).
func protected(segments []string) bool {
	for _, s := range segments {
		if s == "web-inf" || s == "meta-inf" {
			return true
		}
	}
	return false
}

// fold cuts a path into decoded segments in lower case; a final slash adds none.
func fold(path string) []string {
	var segments []string
	for s := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if decoded, err := url.PathUnescape(s); err == nil {
			s = decoded
		}
		if s != "" {
			segments = append(segments, strings.ToLower(s))
		}
	}
	return segments
}

func startsWith(segments, prefix []string) bool {
	if len(segments) < len(prefix) {
		return false
	}
	for i, want := range prefix {
		if stem, open := strings.CutSuffix(want, "*"); open && strings.HasPrefix(segments[i], stem) {
			continue
		}
		if segments[i] != want {
			return false
		}
	}
	return true
}

// describes reports whether a query holds a describing parameter. Semicolons separate here too: some frameworks take them
// so, and a refusal too many costs nothing.
func describes(rawQuery string) bool {
	for pair := range strings.FieldsFuncSeq(rawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if describing[strings.ToLower(strings.TrimSpace(name))] {
			return true
		}
	}
	return false
}

// withoutSessionID takes ";jsessionid=…" out of a redirect's path: the cookie of the same answer says the same, and an id
// in an address ends up in histories and logs.
func withoutSessionID(location string) string {
	end := len(location)
	if i := strings.IndexAny(location, "?#"); i >= 0 {
		end = i
	}
	i := strings.Index(location[:end], ";jsessionid=")
	if i < 0 {
		return location
	}
	return location[:i] + location[end:]
}

// home returns where the bare host leads: people type the host, the application lives under its context.
func (r *Rule) home(path string) (string, bool) {
	if r.Preset != presetOSCAR || path != "/" {
		return "", false
	}
	return r.Contexts[0] + "/", true
}
