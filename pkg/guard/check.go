package guard

import (
	"net/http"
	"net/url"
	"strings"
)

// The bounds of a request's head.
const (
	MaxHeaders     = 100
	MaxCookies     = 64
	MaxHeaderBytes = 32 << 10
)

// Check refuses requests that two programs could read differently, or that ask for more than any page needs. What net/http
// refuses or merges by itself before a handler runs is not looked at again. Nothing of the request is changed.
func Check(r *http.Request) *Refusal {
	if r.Method == http.MethodConnect && r.ProtoMajor == 3 && r.Proto != "HTTP/3.0" {
		// Extended CONNECT, which the library always offers (RFC 9220 §3): no protocol of ours. WebSockets go over TCP.
		return &Refusal{Status: http.StatusNotImplemented, Code: CodeMethod, Reason: "extended-connect"}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return &Refusal{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Reason: "method", Close: true}
	}
	switch {
	case !r.ProtoAtLeast(1, 1):
		return &Refusal{Status: http.StatusHTTPVersionNotSupported, Code: CodeRequest, Reason: "version", Close: true}
	case r.URL.IsAbs() || r.URL.Host != "" || !strings.HasPrefix(r.RequestURI, "/"):
		// Absolute form names a host twice, and net/http lets the header's go unseen. No browser sends it to an origin.
		return &Refusal{Status: 400, Code: CodeRequest, Reason: "target-form", Close: true}
	case len(r.TransferEncoding) > 1 || len(r.TransferEncoding) == 1 && r.TransferEncoding[0] != "chunked":
		return &Refusal{Status: 400, Code: CodeRequest, Reason: "transfer-encoding", Close: true}
	case overridesMethod(r.URL.RawQuery):
		return bad("method-override")
	}
	if refusal := checkHeader(r.Header); refusal != nil {
		return refusal
	}
	if host, ok := r.Header["Host"]; ok && (len(host) != 1 || host[0] != r.Host) {
		return bad("host-header") // HTTP/2: beside a different :authority
	}
	if r.Header.Get("Authorization") != "" && r.Header.Get("Proxy-Authorization") != "" {
		return bad("two-credentials")
	}
	return CheckTrailer(r.Trailer)
}

// CheckTrailer checks the names of trailers: those announced before the body, and again what came after it (Pace does).
func CheckTrailer(h http.Header) *Refusal {
	if len(h) > MaxHeaders {
		return &Refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Code: CodeHeaders, Reason: "trailer-count", Close: true}
	}
	for name := range h {
		if !plainName(name) {
			return &Refusal{Status: 400, Code: CodeRequest, Reason: "trailer-name", Close: true}
		}
	}
	return nil
}

func checkHeader(h http.Header) *Refusal {
	count, bytes := 0, 0
	for name, values := range h {
		if !plainName(name) {
			return bad("header-name")
		}
		if len(values) > 1 && single(name) {
			return bad("header-twice")
		}
		count += len(values)
		for _, v := range values {
			bytes += len(name) + len(v) + len(": \r\n")
		}
	}
	switch {
	case count > MaxHeaders:
		return tooMuch("header-count")
	case bytes > MaxHeaderBytes:
		return tooMuch("header-bytes")
	case cookies(h["Cookie"]) > MaxCookies:
		return tooMuch("cookie-count")
	}
	return nil
}

func tooMuch(reason string) *Refusal {
	return &Refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Code: CodeHeaders, Reason: reason}
}

// plainName accepts letters, digits and hyphens. Underscores, dots and the rest of RFC 9110's tokens are folded together by
// servlet containers, CGI and proxies, so that two names could be one behind us.
func plainName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// single names the headers that have one value or none: of two, every reader picks another.
func single(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Sallyport-Access-Token", "Cookie", "Host", "Origin", "Referer", "User-Agent",
		"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User", "Service-Worker", "Service-Worker-Navigation-Preload",
		"Content-Type", "Content-Length", "Content-Range", "Content-Location", "Content-Disposition", "Range", "If-Range",
		"If-Modified-Since", "If-Unmodified-Since", "Date", "Expect", "From", "Max-Forwards", "Upgrade", "Http2-Settings",
		"Sec-Websocket-Key", "Sec-Websocket-Version", "X-Requested-With", "Csrf-Token", "X-Csrf-Token", "Soapaction",
		"Access-Control-Request-Method":
		return true
	}
	return false
}

func cookies(lines []string) int {
	n := 0
	for _, line := range lines {
		n += strings.Count(line, ";") + 1
	}
	return n
}

// overridesMethod finds a parameter by which frameworks let a request be taken for one with another method. The query is
// forwarded as it came, so that such a parameter cannot be taken out; it is refused.
func overridesMethod(query string) bool {
	if !strings.Contains(query, "ethod") && !strings.Contains(query, "%") && !strings.Contains(query, "ETHOD") {
		return false
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if strings.ContainsAny(name, "%+") {
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
		}
		if strings.EqualFold(name, "_method") {
			return true
		}
	}
	return false
}
