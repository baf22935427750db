package guard

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Strip takes out of a request's headers what ends at this hop and what only the edge may say. What Connection names goes
// first, so that nothing which is set afterwards can be named away. It comes after authentication, since it takes
// Sallyport-Access-Token too. Cookies of ours are left to whoever forwards the Cookie header.
func Strip(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name := range h {
		if hopByHop(name) || Reserved(name) {
			delete(h, name)
		}
	}
}

// StripTrailer takes out of trailers what must stand in the head to mean anything, and what Strip takes out of that.
func StripTrailer(h http.Header) {
	for name := range h {
		if hopByHop(name) || Reserved(name) || single(name) || strings.HasPrefix(name, "Content-") || name == "Set-Cookie" {
			delete(h, name)
		}
	}
}

// hopByHop are the fields of one connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || name == "Proxy"
}

// Reserved reports whether a header (in canonical form) is one that origins believe when a proxy says it: who the client
// is, where it is, what it asked for. Only the edge says these.
func Reserved(name string) bool {
	switch name {
	case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Client-Cert", "X-Client-Dn", "X-Client-Verify", "X-Cluster-Client-Ip",
		"True-Client-Ip", "Client-Ip", "X-Originating-Ip", "X-Remote-Ip", "X-Remote-Addr", "X-Request-Id", "X-Host", "X-Scheme",
		"X-Url-Scheme", "Front-End-Https", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Proxyuser-Ip",
		"Fastly-Client-Ip", "X-Azure-Clientip", "X-Azure-Socketip", "X-Appengine-User-Ip", "X-Waws-Unencoded-Url", "X-Custom-Ip-Authorization":
		return true
	}
	for _, prefix := range [...]string{
		"X-Forwarded", "X-Original", "X-Rewrite", "X-Oscar", "Cf-", "Client-Cert", "Sallyport-", "X-Sallyport", "X-Ssl-", "Ssl-Client",
		"X-Auth-Request", "X-Authenticated", "X-Remote-User", "X-Webauth", "Remote-", "X-Envoy-", "X-Amzn-Oidc", "X-Goog-Authenticated",
		"X-Goog-Iap", "X-Pomerium", "X-Authentik", "X-Ms-Client-Principal", "X-Ms-Token", "X-Accel-", "X-Arr-", "Tailscale-",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
