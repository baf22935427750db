package guard

import (
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/route"
)

// Host returns the canonical host that a request is for. The name that TLS was set up for must be the same (RFC 9110
// §7.4): a certificate that covers both does not make two hosts one. A request without TLS is for nobody.
func Host(r *http.Request) (string, *Refusal) {
	host, err := route.CanonicalHost(r.Host)
	if err != nil {
		return "", &Refusal{Status: http.StatusBadRequest, Code: CodeRequest, Reason: "host", Close: true}
	}
	if r.TLS == nil || strings.ToLower(r.TLS.ServerName) != host {
		return "", Misdirected()
	}
	return host, nil
}

// Misdirected is the answer to a host that this connection, or this edge, does not serve (RFC 9110 §15.5.20).
func Misdirected() *Refusal {
	return &Refusal{Status: http.StatusMisdirectedRequest, Code: CodeMisdirected, Reason: "misdirected"}
}
