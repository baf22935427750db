package hop

import "strings"

// The tables are keyed by canonical name (net/http.CanonicalHeaderKey) and never written after start.
var (
	// ofConnection belongs to one connection, or is carried by the wire format in a field of its own.
	ofConnection = set("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Content-Length",
		"Host", "Expect")

	// onlyOurs are request fields that the edge states from what it knows itself, or that would let a client change how
	// path, method, host, address or user are read behind us.
	onlyOurs = set("Forwarded", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Originating-Ip", "X-Remote-Ip",
		"X-Remote-Addr", "True-Client-Ip", "Fastly-Client-Ip", "Client-Ip", "Via", "X-Request-Id",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "Client-Cert", "Client-Cert-Chain",
		"X-Remote-User", "X-Proxyuser-Ip", "X-Host", "X-Scheme", "X-Url-Scheme", "Front-End-Https",
		"X-Waws-Unencoded-Url", "X-Custom-Ip-Authorization", "Proxy", "Clear-Site-Data")

	// onlyOursPrefix are families of such fields.
	onlyOursPrefix = []string{
		"Sallyport-", "X-Sallyport-", "X-Forwarded-", "X-Original-", "X-Oscar-", "Cf-",
		"X-Client-Cert", "X-Ssl-", "Ssl-Client-", "X-Authenticated-", "X-Auth-Request-", "X-Webauth-", "X-Envoy-", "X-Accel-",
		"Remote-", "X-Rewrite-", "X-Arr-", "X-Client-Dn", "X-Client-Verify", "X-Azure-", "X-Appengine-", "X-Amzn-Oidc",
		"X-Goog-Iap", "X-Goog-Authenticated", "X-Ms-Client-Principal", "X-Ms-Token", "X-Pomerium", "X-Authentik", "Tailscale-",
	}

	// answerOnly are answer fields that an origin may not set for a host that it shares with the edge: they name its
	// software, move its clients elsewhere, or widen a service worker over our own paths.
	answerOnly = set("Service-Worker-Allowed", "Strict-Transport-Security", "Set-Cookie2", "Alt-Svc", "Server",
		"X-Powered-By", "X-Request-Id", "X-Accel-Redirect", "Public-Key-Pins")
)

// reserved reports whether name is a request field that only we may set.
func reserved(name string) bool {
	if onlyOurs[name] {
		return true
	}
	for _, p := range onlyOursPrefix {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return strings.HasPrefix(name, "X-Forwarded")
}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
