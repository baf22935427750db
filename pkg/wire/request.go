package wire

import (
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Limits of a request head, in bytes. The edge's own limits are tighter; these are what a peer may at most make us hold.
const (
	MaxTarget    = 16 << 10 // path and query together
	maxMethod    = 32
	maxHost      = 255 + len(":65535")
	maxName      = 64
	maxAssertion = 8 << 10
	// MaxHop is how many edges an exchange may have passed.
	MaxHop = 8
)

// RequestHead opens an exchange. Field comments are in proto/tunnel/v1/tunnel.proto.
type RequestHead struct {
	Exchange  uint64
	RequestID string
	Tenant    string
	Site      string
	App       string
	Method    string
	// Scheme is that of the public URL: "https", or "http" where TLS ends in front of the edge.
	Scheme   string
	Host     string
	Path     string
	RawQuery string
	HasQuery bool
	Header   Header
	// ContentLength in bytes; -1: unknown.
	ContentLength   int64
	Upgrade         string
	ExpectContinue  bool
	ClientIP        string
	Assertion       string
	OriginAssertion string
	Hop             uint32
	TrailerNames    []string
	Generation      uint64
	// Connector is set from edge to edge alone.
	Connector string
	// Again says that the request may have been sent before, and must be served once (FeatureOnce).
	Again bool
}

// Validate refuses what may not travel. Writer and Reader both call it, so neither side relies on the other.
func (h *RequestHead) Validate() error {
	if !validMethod(h.Method) {
		return violationf("request head: method %.20q", h.Method)
	}
	if h.Scheme != "https" && h.Scheme != "http" {
		return violationf("request head: scheme %.10q", h.Scheme)
	}
	if h.Host == "" || !visible(h.Host, maxHost) || strings.ContainsAny(h.Host, "/\\@?#%,;'\"<>") {
		return violationf("request head: host")
	}
	if err := h.checkTarget(); err != nil {
		return err
	}
	if err := h.checkNames(); err != nil {
		return err
	}
	if h.ContentLength < -1 {
		return violationf("request head: content length %d", h.ContentLength)
	}
	if h.Upgrade != "" && (!validUpgrade(h.Upgrade) || h.ContentLength != 0 || h.ExpectContinue) {
		return violationf("request head: upgrade %.20q", h.Upgrade)
	}
	if err := checkTrailerNames(h.TrailerNames); err != nil {
		return err
	}
	return checkHeader(h.Header)
}

func (h *RequestHead) checkTarget() error {
	if len(h.Path) == 0 || h.Path[0] != '/' || !visible(h.Path, MaxTarget) || strings.ContainsAny(h.Path, "?#\\") {
		return violationf("request head: path")
	}
	if h.RawQuery != "" && !h.HasQuery {
		return violationf("request head: query without has_query")
	}
	if !without(h.RawQuery, MaxTarget-len(h.Path), "#") {
		return violationf("request head: query")
	}
	return nil
}

func (h *RequestHead) checkNames() error {
	for _, name := range [...]string{h.RequestID, h.Tenant, h.Site, h.App, h.Connector} {
		if !visible(name, maxName) {
			return violationf("request head: name %.20q", name)
		}
	}
	if !visible(h.Assertion, maxAssertion) || !visible(h.OriginAssertion, maxAssertion) {
		return violationf("request head: assertion is too long or not a token")
	}
	if h.ClientIP != "" {
		// A zone may hold anything (RFC 4007 §11.2), another address in a list too.
		if _, err := netip.ParseAddr(h.ClientIP); err != nil || !visible(h.ClientIP, maxName) || strings.ContainsAny(h.ClientIP, ",;\"") {
			return violationf("request head: client address")
		}
	}
	if h.Hop > MaxHop {
		return violationf("request head: hop %d", h.Hop)
	}
	if h.Again && h.RequestID == "" {
		return violationf("request head: again without a request id")
	}
	return nil
}

// validMethod takes upper-case methods whose target is a path and whose answer may cross a proxy: CONNECT has no path,
// TRACE mirrors what only the origin should see, and PRI is HTTP/2's preface (RFC 9113 §3.4).
func validMethod(m string) bool {
	if m == "" || len(m) > maxMethod || m == "CONNECT" || m == "TRACE" || m == "PRI" {
		return false
	}
	for i := 0; i < len(m); i++ {
		if (m[i] < 'A' || m[i] > 'Z') && m[i] != '-' {
			return false
		}
	}
	return true
}

// validUpgrade takes a protocol's token, but not h2c: HTTP in HTTP would carry requests that nobody judged.
func validUpgrade(token string) bool {
	return len(token) <= maxName && httpguts.ValidHeaderFieldName(token) && !strings.EqualFold(token, "h2c")
}
