package guard_test

import (
	"net/http"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

var oscar = tenant.App{
	Tenant: "maple", ID: "app_1", Host: "oscar.maple.example", Path: "/oscar",
	Landing: []string{"/oscar/index.jsp", "/oscar/open/*"}, WebSocket: []string{"/oscar/socket"},
}

func h(pairs ...string) http.Header {
	out := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		out.Add(pairs[i], pairs[i+1])
	}
	return out
}

func navigate(site string) http.Header {
	return h("Sec-Fetch-Site", site, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
}

func TestCrossSite(t *testing.T) {
	const pass, ask, forbid = guard.Pass, guard.Ask, guard.Forbid
	own := "https://oscar.maple.example"
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		cookie         bool
		want           guard.Verdict
	}{
		"own page":                       {"GET", "/oscar/write.do?x=1", h("Sec-Fetch-Site", "same-origin"), true, pass},
		"own form":                       {"POST", "/oscar/write.do", h("Sec-Fetch-Site", "same-origin", "Origin", own), true, pass},
		"typed in":                       {"GET", "/oscar/write.do", navigate("none"), true, pass},
		"link to a landing page":         {"GET", "/oscar/index.jsp", navigate("cross-site"), true, pass},
		"link below a landing prefix":    {"GET", "/oscar/open/x?y=1", navigate("cross-site"), true, pass},
		"link to the root":               {"GET", "/", navigate("cross-site"), true, pass},
		"link to the app's root":         {"GET", "/oscar", navigate("cross-site"), true, pass},
		"the root with a parameter":      {"GET", "/oscar/?method=delete", navigate("cross-site"), true, ask},
		"link to anything else":          {"GET", "/oscar/write.do", navigate("cross-site"), true, ask},
		"the same, nobody signed in":     {"GET", "/oscar/write.do", navigate("cross-site"), false, ask},
		"link from a sibling host":       {"GET", "/oscar/write.do", navigate("same-site"), true, ask},
		"next to a landing prefix":       {"GET", "/oscar/openx", navigate("cross-site"), true, ask},
		"foreign form":                   {"POST", "/oscar/index.jsp", navigate("cross-site"), true, forbid},
		"foreign form, nobody signed in": {"POST", "/oscar/index.jsp", navigate("cross-site"), false, forbid},
		"sibling's form":                 {"POST", "/oscar/index.jsp", navigate("same-site"), true, forbid},
		"foreign frame":                  {"GET", "/oscar/index.jsp", h("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"), true, forbid},
		"foreign HEAD":                   {"HEAD", "/oscar/index.jsp", navigate("cross-site"), true, forbid},
		"foreign image":                  {"GET", "/oscar/index.jsp", h("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"), true, forbid},
		"sibling's image":                {"GET", "/oscar/write.do", h("Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"), true, forbid},
		"foreign fetch without cookie":   {"GET", "/oscar/x", h("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"), false, pass},
		"foreign preflight":              {"OPTIONS", "/oscar/x", h("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Origin", "https://evil.example"), false, forbid},
		"unknown word":                   {"POST", "/oscar/x", h("Sec-Fetch-Site", "Same-Origin"), true, forbid},
		"same origin that says another":  {"POST", "/oscar/x", h("Sec-Fetch-Site", "same-origin", "Origin", "https://evil.example"), true, forbid},
		"old browser, own form":          {"POST", "/oscar/x", h("Origin", own), true, pass},
		"old browser, foreign form":      {"POST", "/oscar/x", h("Origin", "https://evil.example"), true, forbid},
		"null origin":                    {"POST", "/oscar/x", h("Origin", "null"), true, forbid},
		"http origin":                    {"POST", "/oscar/x", h("Origin", "http://oscar.maple.example"), true, forbid},
		"other port":                     {"POST", "/oscar/x", h("Origin", own+":8443"), true, forbid},
		"origin that begins alike":       {"POST", "/oscar/x", h("Origin", own+".evil.example"), true, forbid},
		"neither, with cookie":           {"POST", "/oscar/x", nil, true, forbid},
		"neither, a machine":             {"POST", "/oscar/x", nil, false, pass},
		"neither, reading":               {"GET", "/oscar/x", nil, true, pass},
		"old browser, foreign link":      {"GET", "/oscar/x", h("Referer", "https://evil.example/"), true, ask},
		"old browser, alike link":        {"GET", "/oscar/x", h("Referer", own+".evil.example/"), true, ask},
		"old browser, own link":          {"GET", "/oscar/x", h("Referer", own+"/oscar/y"), true, pass},
		"worker within the app":          {"GET", "/oscar/js/sw.js", h("Service-Worker", "script", "Sec-Fetch-Site", "same-origin"), true, pass},
		"worker at the root":             {"GET", "/sw.js", h("Service-Worker", "script", "Sec-Fetch-Site", "same-origin"), true, forbid},
		"worker by destination":          {"GET", "/sw.js", h("Sec-Fetch-Dest", "serviceworker", "Sec-Fetch-Site", "same-origin"), true, forbid},
		"worker over our paths":          {"GET", "/.sallyport/x/sw.js", h("Service-Worker", "script", "Sec-Fetch-Site", "same-origin"), true, forbid},
		"worker of a neighbour":          {"GET", "/oscarx/sw.js", h("Service-Worker", "script", "Sec-Fetch-Site", "same-origin"), true, forbid},
	} {
		t.Run(name, func(t *testing.T) {
			if got := guard.CrossSite(request(c.method, c.target, c.header), oscar, c.cookie); got != c.want {
				t.Errorf("verdict %d, want %d", got, c.want)
			}
		})
	}
}

func TestWorkersOfAnAppAtTheRoot(t *testing.T) {
	app := oscar
	app.Path = "/"
	for target, want := range map[string]guard.Verdict{
		"/sw.js": guard.Forbid, "/oscar/sw.js": guard.Pass, "/.sallyport/sw.js": guard.Forbid, "/a/..%2fsw.js": guard.Forbid,
	} {
		r := request("GET", target, h("Service-Worker", "script", "Sec-Fetch-Site", "same-origin"))
		if got := guard.CrossSite(r, app, true); got != want {
			t.Errorf("%s: %d, want %d", target, got, want)
		}
	}
}

func TestOriginWithPort(t *testing.T) {
	r := request("POST", "/oscar/x", h("Origin", "https://oscar.maple.localhost:8443"))
	r.Host = "Oscar.maple.localhost:8443"
	if got := guard.CrossSite(r, oscar, true); got != guard.Pass {
		t.Errorf("verdict %d", got)
	}
}

func handshake(pairs ...string) http.Header {
	out := h("Connection", "keep-alive, Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13",
		"Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", "https://oscar.maple.example")
	for i := 0; i < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			out.Del(pairs[i])
		}
	}
	return out
}

func TestUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		cookie       bool
		want, reason string
	}{
		"listed":                  {"GET", "/oscar/socket", handshake(), true, "websocket", ""},
		"below":                   {"GET", "/oscar/socket/1", handshake(), true, "websocket", ""},
		"not listed":              {"GET", "/oscar/socketx", handshake(), true, "", "websocket-path"},
		"foreign page":            {"GET", "/oscar/socket", handshake("Origin", "https://evil.example"), true, "", "websocket-origin"},
		"foreign page, no cookie": {"GET", "/oscar/socket", handshake("Origin", "https://evil.example"), false, "", "websocket-origin"},
		"no origin, cookie":       {"GET", "/oscar/socket", handshake("Origin", ""), true, "", "websocket-origin"},
		"no origin, a machine":    {"GET", "/oscar/socket", handshake("Origin", ""), false, "websocket", ""},
		"h2c":                     {"GET", "/oscar/socket", handshake("Upgrade", "h2c"), true, "", ""},
		"without connection":      {"GET", "/oscar/socket", handshake("Connection", "close"), true, "", ""},
		"post":                    {"POST", "/oscar/socket", handshake(), true, "", "websocket-form"},
		"version":                 {"GET", "/oscar/socket", handshake("Sec-Websocket-Version", "8"), true, "", "websocket-form"},
		"short key":               {"GET", "/oscar/socket", handshake("Sec-Websocket-Key", "AAAA"), true, "", "websocket-form"},
	} {
		t.Run(name, func(t *testing.T) {
			got, refusal := guard.Upgrade(request(c.method, c.path, c.header), oscar, c.path, c.cookie)
			if got != c.want || reason(refusal) != c.reason {
				t.Errorf("%q, refused for %q; want %q, %q", got, reason(refusal), c.want, c.reason)
			}
		})
	}
}
