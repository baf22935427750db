package identity

import (
	"net/mail"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// maxEmail is the longest address that can be delivered to (RFC 5321 §4.5.3.1.3).
const maxEmail = 254

// CanonicalEmail returns the one form of an address that accounts, throttles and look-ups use: NFC, lower case, the domain
// in ASCII (IDNA), no display name, comments, quotes or blanks. Two spellings that reach one mailbox at a common server
// share one form; dots and +tags are kept, because not every server ignores them. fault.Invalid for what is no address.
func CanonicalEmail(s string) (string, error) {
	s = norm.NFKC.String(strings.TrimSpace(s))
	if len(s) > maxEmail || strings.ContainsAny(s, " \t\r\n\"<>()[],;:\\") {
		return "", errEmail
	}
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Address != s {
		return "", errEmail
	}
	local, domain, _ := strings.Cut(s, "@")
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(domain))
	if err != nil || !hostname.MatchString(ascii) {
		return "", errEmail
	}
	local = norm.NFC.String(strings.ToLower(local))
	for _, r := range local + ascii {
		if r < 0x21 || r == 0x7f {
			return "", errEmail
		}
	}
	return local + "@" + ascii, nil
}

// hostname is two labels or more (RFC 1123 §2.1); decoding a broken IDNA label may leave an empty one.
var hostname = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

var errEmail = fault.New(fault.Invalid, "that is no e-mail address; write it whole, like dr.lee@clinic.example")
