package guard

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Upgrade returns "websocket" for a well-formed handshake (RFC 6455 §4.1) on a path where the app allows it, from one of the
// app's own pages. Any other protocol that is offered, h2c above all, is answered as if it were not.
// path is canonical; cookie says that the request carries one of ours, and must then name its Origin.
func Upgrade(r *http.Request, app tenant.App, path string, cookie bool) (string, *Refusal) {
	if r.ProtoMajor != 1 || !hasToken(r.Header["Upgrade"], "websocket") || !hasToken(r.Header["Connection"], "upgrade") {
		return "", nil
	}
	switch {
	case r.Method != http.MethodGet || r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return "", bad("websocket-form")
	case r.Header.Get("Sec-Websocket-Version") != "13" || !wsKey(r.Header.Get("Sec-Websocket-Key")):
		return "", bad("websocket-form")
	case !listed(path, app.WebSocket):
		return "", &Refusal{Status: http.StatusForbidden, Code: CodeWebSocket, Reason: "websocket-path"}
	case foreignOrigin(r) || cookie && r.Header.Get("Origin") == "":
		return "", &Refusal{Status: http.StatusForbidden, Code: CodeWebSocket, Reason: "websocket-origin"}
	}
	return "websocket", nil
}

func listed(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if route.Under(path, p) {
			return true
		}
	}
	return false
}

func wsKey(key string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && len(b) == 16
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
