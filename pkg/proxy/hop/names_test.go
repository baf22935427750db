package hop

import (
	"net/http"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Headers by which other proxies, clouds and login gateways tell a server who is there, over what, and for which address:
// behind us nobody but the edge says so.
func TestNamesThatOnlyTheEdgeMaySet(t *testing.T) {
	for _, name := range []string{
		"Remote-User", "Remote-Groups", "Remote-Addr", "X-Rewrite-Url", "X-Rewrite-Uri", "X-Arr-Ssl", "X-Arr-Clientcert", "X-Scheme",
		"X-Url-Scheme", "Front-End-Https", "X-Client-Dn", "X-Client-Verify", "X-Azure-Clientip", "X-Azure-Socketip",
		"X-Appengine-User-Ip", "X-Waws-Unencoded-Url", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity", "X-Goog-Iap-Jwt-Assertion",
		"X-Goog-Authenticated-User-Email", "X-Ms-Client-Principal", "X-Ms-Client-Principal-Name", "X-Ms-Token-Aad-Id-Token",
		"X-Pomerium-Jwt-Assertion", "X-Authentik-Username", "Tailscale-User-Login", "X-Custom-Ip-Authorization", "X-Forwarded-For",
		"X-Forwarded", "Forwarded", "X-Original-Url", "X-Oscar-User", "Cf-Connecting-Ip", "Sallyport-Assertion", "X-Remote-User",
	} {
		if got := RequestFields(http.Header{name: {"forged"}}); len(got) != 0 {
			t.Errorf("%s travels on", name)
		}
		if got := CleanRequest(wire.Header{{Name: name, Value: "forged"}}); len(got) != 0 {
			t.Errorf("%s is taken from the tunnel", name)
		}
		if TrailerName(name) {
			t.Errorf("%s may stand in a trailer", name)
		}
	}
	// Neighbours in name that applications use themselves.
	for _, name := range []string{"X-Requested-With", "X-Csrf-Token", "Csrf-Token", "Soapaction", "X-Client-Version", "Authorization", "X-Remote"} {
		if got := RequestFields(http.Header{name: {"v"}}); len(got) != 1 {
			t.Errorf("%s is taken away", name)
		}
	}
}
