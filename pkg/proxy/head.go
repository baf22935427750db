package proxy

import (
	"errors"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/web"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

var errTooBig = errors.New("the request's head is over what the origin takes")

// head makes the request's head from what was decided, never from r.URL or r.Host. False means that it was answered here.
func (c *carrying) head() (wire.RequestHead, bool) {
	r := c.r
	if !r.ProtoAtLeast(1, 1) {
		// The end of an HTTP/1.0 answer is the end of the connection: one that broke off would look whole.
		c.page(codeBadRequest, http.StatusHTTPVersionNotSupported)
		return wire.RequestHead{}, false
	}
	h := wire.RequestHead{
		Exchange: c.exchanges.Add(1), RequestID: string(c.RequestID),
		Tenant: string(c.Tenant.ID), Site: string(c.App.Site), App: string(c.App.ID),
		Method: r.Method, Scheme: "https", Host: c.Host,
		Path: c.Target.Path, RawQuery: c.Target.RawQuery, HasQuery: c.Target.HasQuery,
		Header: hop.RequestFields(r.Header), ContentLength: r.ContentLength, ClientIP: c.ClientIP,
		Upgrade: c.wantsUpgrade(),
	}
	if !hasBody(r) {
		h.ContentLength = 0
	} else {
		h.ExpectContinue = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
		h.TrailerNames = hop.TrailerNames(r.Trailer)
	}
	if err := h.Validate(); err != nil {
		c.cause = err
		c.page(codeBadRequest, http.StatusBadRequest)
		return wire.RequestHead{}, false
	}
	return h, true
}

// codeBadRequest is on the page for requests that never were an exchange.
const codeBadRequest = "E-BAD-REQUEST"

// wantsUpgrade returns "websocket" if r asks for one where the app allows it. Every other upgrade is left out and the
// request answered plainly (RFC 9110 §7.8); HTTP/2 has no such thing.
func (c *carrying) wantsUpgrade() string {
	r := c.r
	if r.ProtoMajor != 1 || r.Method != http.MethodGet || hasBody(r) || !hasToken(r.Header["Connection"], "upgrade") ||
		len(r.Header["Upgrade"]) != 1 || !strings.EqualFold(strings.TrimSpace(r.Header["Upgrade"][0]), "websocket") {
		return ""
	}
	for _, prefix := range c.App.WebSocket {
		if urlpath.HasPrefix(c.Target.Path, prefix) {
			return "websocket"
		}
	}
	return ""
}

func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(part, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// framing is room for the fields that the connector writes itself: lengths, 100-continue, the connection.
const framing = 96

// size is how many bytes the head takes at the origin (RFC 9112 §3, §5): ours included.
func size(h *wire.RequestHead) int {
	n := len(h.Method) + len(h.Path) + len(h.RawQuery) + len(" ? HTTP/1.1\r\n\r\n") + framing
	for _, f := range h.Header {
		n += len(f.Name) + len(f.Value) + len(": \r\n")
	}
	for _, v := range []string{
		"Host: \r\n", h.Host, "X-Forwarded-For: \r\n", h.ClientIP, "X-Forwarded-Proto: https\r\n",
		"X-Request-Id: \r\n", h.RequestID, "Sallyport-Assertion: \r\n", h.OriginAssertion,
	} {
		n += len(v)
	}
	return n
}

func (c *carrying) fits(h *wire.RequestHead) bool { return size(h) <= c.budget }

// tooBig answers a head over the budget: cookies are what grows, and the page offers to clear them; a target that is too
// long all by itself is told so instead.
func (c *carrying) tooBig() {
	cookies := 0
	for _, line := range c.r.Header["Cookie"] {
		cookies += len(line)
	}
	c.result.ErrorCode = wire.CodeTooLarge
	switch target := len(c.Target.String()); {
	case cookies < target && target > c.budget/2:
		c.page(wire.CodeTooLarge, http.StatusRequestURITooLong)
	case !web.WantsPage(c.r) || cookies == 0:
		c.page(wire.CodeTooLarge, http.StatusRequestHeaderFieldsTooLarge)
	default:
		c.result.Status = http.StatusRequestHeaderFieldsTooLarge
		c.pages.TooBig(c.w, c.r, web.Door{Clinic: c.Tenant.Name, App: c.App.Name, Host: c.App.Host, RequestID: c.RequestID})
	}
}
