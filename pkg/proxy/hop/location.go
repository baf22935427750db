package hop

import (
	"net/netip"
	"net/url"
	"strings"
)

// Verdict says what became of an address in an answer.
type Verdict int

// The verdicts.
const (
	Kept Verdict = iota
	Rewritten
	Blocked
)

// Location judges where an origin sends a browser. An address that names the public host (in whatever scheme or port the
// origin believes in), one of own, or a host that means something only inside the clinic is rewritten to the public
// origin, "https://" + public; public is the host that the browser used, with its port. What browsers read differently
// from servers is blocked: backslashes, controls, schemes that run or read things, addresses without their two slashes, and
// "//host" to a foreign one.
func Location(value, public string, own ...string) (string, Verdict) {
	value = strings.Trim(value, " \t")
	before := value
	if i := strings.IndexAny(before, "?#"); i >= 0 {
		before = before[:i]
	}
	if hasControl(value) || strings.Contains(before, `\`) {
		return "", Blocked
	}
	scheme, hasScheme := schemeOf(before)
	switch {
	case strings.HasPrefix(before, "//"):
		return toPublic("https:"+value, public, own, true)
	case !hasScheme:
		return value, Kept
	case scheme == "http" || scheme == "https":
		if !strings.HasPrefix(before[len(scheme)+1:], "//") {
			return "", Blocked
		}
		return toPublic(value, public, own, false)
	case runs(scheme):
		return "", Blocked
	}
	// Another program's scheme, such as a phone app's call-back: there a single word need not be a host.
	if u, err := url.Parse(value); err != nil || strings.ContainsAny(u.Host, ".:[") && inside(u.Hostname()) {
		return "", Blocked
	}
	return value, Kept
}

func toPublic(value, public string, own []string, relative bool) (string, Verdict) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User != nil && !inside(u.Hostname()) {
		return "", Blocked
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ours := host == hostname(public) || inside(host)
	for _, o := range own {
		ours = ours || host == hostname(o)
	}
	switch {
	case !ours && relative:
		return "", Blocked
	case !ours:
		return value, Kept
	}
	// Everything after the authority keeps its bytes: OSCAR's queries are not always what net/url would write.
	rest := value[strings.Index(value, "//")+2:]
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[i:]
	} else {
		rest = ""
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	rewritten := "https://" + public + rest
	if rewritten == value {
		return value, Kept
	}
	return rewritten, Rewritten
}

// inside reports whether host has no meaning outside the clinic's network, or may be read as an address there.
func inside(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap().WithZone("")
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() ||
			sharedSpace.Contains(a)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case !strings.Contains(host, "."):
		return true
	case last == "" || last[0] >= '0' && last[0] <= '9':
		// "127.1", "0x7f.1": browsers take a last label that starts as a number for an IPv4 address.
		return true
	}
	switch last {
	case "localhost", "local", "localdomain", "internal", "lan", "intranet", "corp", "home", "private", "arpa":
		return true
	}
	for i := range len(host) {
		if host[i] >= 0x80 || host[i] == '%' {
			return true
		}
	}
	return false
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// hostname returns the host of host[:port] in the form that is compared.
func hostname(hostport string) string {
	u := url.URL{Host: hostport}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

func schemeOf(s string) (string, bool) {
	i := strings.IndexByte(s, ':')
	if i <= 0 {
		return "", false
	}
	for j := range i {
		c := s[j] | 0x20
		if c >= 'a' && c <= 'z' {
			continue
		}
		if j == 0 || (s[j] < '0' || s[j] > '9') && s[j] != '+' && s[j] != '-' && s[j] != '.' {
			return "", false
		}
	}
	return strings.ToLower(s[:i]), true
}

func runs(scheme string) bool {
	switch scheme {
	case "javascript", "vbscript", "data", "blob", "filesystem", "file", "about", "view-source", "ftp", "ws", "wss":
		return true
	}
	return false
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// Refresh judges the address in a Refresh field ("5; url=…") as Location does. It finds it as browsers do (HTML, shared
// declarative refresh steps): behind a semicolon, a comma or a blank, with "url=" or without.
func Refresh(value, public string, own ...string) (string, Verdict) {
	const blank = " \t"
	rest := strings.TrimLeft(strings.TrimLeft(value, blank), "0123456789.")
	rest = strings.TrimLeft(rest, blank)
	if rest != "" && (rest[0] == ';' || rest[0] == ',') {
		rest = strings.TrimLeft(rest[1:], blank)
	}
	before := value[:len(value)-len(rest)]
	if len(rest) >= len("url") && strings.EqualFold(rest[:len("url")], "url") {
		if assigned, ok := strings.CutPrefix(strings.TrimLeft(rest[len("url"):], blank), "="); ok {
			rest = assigned
		}
	}
	target := strings.Trim(rest, blank+"\"'")
	if target == "" {
		return value, Kept
	}
	judged, verdict := Location(target, public, own...)
	if verdict != Rewritten {
		return value, verdict
	}
	return before + "url=" + judged, Rewritten
}
