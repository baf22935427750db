// Package hop owns what one HTTP hop may hand to the next: which fields of a request reach the origin, which fields of an
// answer reach the browser, cookies both ways, where a redirect may point, and how bytes are pumped in between. The edge
// applies it when it sends and the connector when it receives, so that neither depends on the other having done so. It
// opens no connection, writes no page and decides nothing about who may do what.
package hop

import (
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// RequestFields returns the fields of a browser's request that may travel on: fields of the connection go first (RFC 9110
// §7.6.1), then every name that only we may set, then our cookies. What it returns holds none of ours; the caller adds
// them afterwards.
func RequestFields(h http.Header) wire.Header {
	return fields(h, Connection(h), requestField)
}

// AnswerFields returns the fields of an origin's answer that may travel on, in their order per name; Set-Cookie lines stay
// apart from each other.
func AnswerFields(h http.Header) wire.Header {
	return fields(h, Connection(h), answerField)
}

// CleanRequest applies the rules of RequestFields to fields that came over the tunnel.
func CleanRequest(h wire.Header) wire.Header { return clean(h, requestField) }

// CleanAnswer applies the rules of AnswerFields to fields that came over the tunnel.
func CleanAnswer(h wire.Header) wire.Header { return clean(h, answerField) }

// Trailer returns the trailer fields that may travel on, in either direction. A trailer may not carry what frames,
// routes, authenticates or sets cookies (RFC 9110 §6.5.1).
func Trailer(h http.Header) wire.Header {
	out := make(wire.Header, 0, len(h))
	for name, values := range h {
		if !TrailerName(name) {
			continue
		}
		for _, v := range values {
			out = append(out, wire.Field{Name: name, Value: v})
		}
	}
	return out
}

// TrailerNames returns those names that may stand in a trailer.
func TrailerNames(h http.Header) []string {
	var names []string
	for name := range h {
		if TrailerName(name) {
			names = append(names, name)
		}
	}
	return names
}

// TrailerName reports whether a trailer may carry name.
func TrailerName(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return wire.TrailerAllowed(name) && plain(name) && !reserved(name) && !answerOnly[name]
}

// Connection returns the names that Connection lists: they belong to the connection that carried them. Nil if there are
// none apart from the ones that are never passed on anyway.
func Connection(h http.Header) map[string]bool {
	var named map[string]bool
	for _, line := range h["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			name := http.CanonicalHeaderKey(strings.Trim(token, " \t"))
			if name == "" || ofConnection[name] {
				continue
			}
			if named == nil {
				named = map[string]bool{}
			}
			named[name] = true
		}
	}
	return named
}

// rule says what becomes of one field: its value, and whether it travels on.
type rule func(name, value string) (string, bool)

func fields(h http.Header, named map[string]bool, keep rule) wire.Header {
	out := make(wire.Header, 0, len(h)+4)
	for name, values := range h {
		if named[name] {
			continue
		}
		for _, v := range values {
			if v, ok := keep(name, v); ok {
				out = append(out, wire.Field{Name: name, Value: v})
			}
		}
	}
	return out
}

func clean(h wire.Header, keep rule) wire.Header {
	out := make(wire.Header, 0, len(h)+4)
	for _, f := range h {
		name := http.CanonicalHeaderKey(f.Name)
		if v, ok := keep(name, f.Value); ok {
			out = append(out, wire.Field{Name: name, Value: v})
		}
	}
	return out
}

func requestField(name, value string) (string, bool) {
	switch {
	case ofConnection[name] || reserved(name) || !plain(name):
		return "", false
	case name == "Cookie":
		return Cookies(value, session.IsOurs)
	}
	return value, true
}

func answerField(name, value string) (string, bool) {
	switch {
	case ofConnection[name] || answerOnly[name] || strings.HasPrefix(name, "Sallyport-"):
		return "", false
	case name == "Set-Cookie":
		return SetCookie(value, session.IsOurs)
	case name == "Clear-Site-Data":
		return clearSiteData(value)
	}
	return value, true
}

// plain refuses names with an underscore, a dot or anything else that servlet containers and CGI bindings fold into
// another name.
func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != ""
}

// clearSiteData drops the directives that would sign our user out or end our pages; an origin may still empty its cache.
func clearSiteData(value string) (string, bool) {
	var kept []string
	for part := range strings.SplitSeq(value, ",") {
		switch part = strings.TrimSpace(part); strings.ToLower(strings.Trim(part, `"`)) {
		case "cache", "storage", "prefetchcache", "prerendercache":
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ", "), len(kept) > 0
}
