package route

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// maxHost is the longest host name in text form (RFC 1035 §2.3.4), without the trailing dot.
const maxHost = 253

// CanonicalHost returns the one form of a host as requests and TLS carry it: lower case, without port and trailing dot,
// internationalised names as the A-labels they must travel as. Forms with more than one reading are fault.Invalid: address
// literals in any notation, user information, two ports, empty labels, characters outside letters, digits, dot and hyphen,
// and A-labels that IDNA does not make (RFC 5891 §5). A canonical host costs no allocation.
func CanonicalHost(raw string) (string, error) {
	host, err := cutPort(raw)
	if err != nil {
		return "", err
	}
	host = strings.TrimSuffix(host, ".")
	if err := checkName(host); err != nil {
		return "", err
	}
	host = strings.ToLower(host)
	if strings.Contains(host, "xn--") {
		// Lookup refuses what it did not make itself; a name that changes under it has two readings.
		if back, err := idna.Lookup.ToASCII(host); err != nil || back != host || fakeALabel(host) {
			return "", odd(raw)
		}
	}
	return host, nil
}

// ParseHost reads a host that a person wrote into the configuration: like CanonicalHost, but a name in its own script is
// turned into A-labels, and a port is a mistake.
func ParseHost(text string) (string, error) {
	if strings.Contains(text, ":") {
		return "", fault.New(fault.Invalid, "host %q: leave scheme and port out", text)
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(text, "."))
	if err != nil {
		return "", odd(text)
	}
	return CanonicalHost(ascii)
}

func cutPort(raw string) (string, error) {
	host, port, found := strings.Cut(raw, ":")
	if !found {
		return raw, nil
	}
	if port == "" || len(port) > 5 {
		return "", odd(raw)
	}
	n := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", odd(raw)
		}
		n = n*10 + int(port[i]-'0')
	}
	if n == 0 || n > 65535 {
		return "", odd(raw)
	}
	return host, nil
}

// checkName checks letters, digits and hyphens in labels of 1 to 63 (RFC 1123 §2.1) and that the last label is no number:
// such a name is an IPv4 address in one of its notations (WHATWG URL, "ends in a number").
func checkName(host string) error {
	if host == "" || len(host) > maxHost {
		return odd(host)
	}
	start := 0
	for i := 0; i <= len(host); i++ {
		if i < len(host) && host[i] != '.' {
			if !letterDigitHyphen(host[i]) {
				return odd(host)
			}
			continue
		}
		l := host[start:i]
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return odd(host)
		}
		if i == len(host) && isNumber(l) {
			return odd(host)
		}
		start = i + 1
	}
	return nil
}

func letterDigitHyphen(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

func isNumber(label string) bool {
	if len(label) >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X') {
		return strings.Trim(label[2:], "0123456789abcdefABCDEF") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// fakeALabel finds A-labels that decode to plain ASCII ("xn--example-"): IDNA never makes one, decoders disagree on them.
func fakeALabel(host string) bool {
	for l := range strings.SplitSeq(host, ".") {
		if !strings.HasPrefix(l, "xn--") {
			continue
		}
		u, err := idna.Lookup.ToUnicode(l)
		if err != nil || u == l || isASCII(u) {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func odd(host string) error {
	return fault.New(fault.Invalid, "%s", fmt.Sprintf("host %.100q: not a host name", host))
}
