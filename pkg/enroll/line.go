package enroll

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Forms of what the pasted line may hold. They leave no character that any shell reads as more than itself.
var (
	hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	pinForm  = regexp.MustCompile(`^sha256:[A-Za-z0-9_-]{43}$`)
)

// Line is the one line to paste on the clinic's machine. pin is the CA's ("sha256:" and base64url), empty where the
// edge's certificate comes from a public CA. It fails rather than quote: every part is checked to need no quoting in any
// shell, so that a value from elsewhere can never become a command.
func Line(edge, code, pin string) (string, error) {
	edge, err := EdgeURL(edge)
	if err != nil {
		return "", err
	}
	if !codeForm.MatchString(code) {
		return "", fault.New(fault.Invalid, "enrolment code: want 26 of A-Z and 2-7")
	}
	line := fmt.Sprintf("connector enroll %s --code %s", edge, code)
	if pin == "" {
		return line, nil
	}
	if err := CheckPin(pin); err != nil {
		return "", err
	}
	return line + " --ca " + pin, nil
}

// EdgeURL checks the address of an edge, https://host or https://host:port, and returns its one spelling.
func EdgeURL(raw string) (string, error) {
	bad := fault.New(fault.Invalid, "edge URL: use https://host or https://host:port, nothing after it")
	u, err := url.Parse(raw)
	if err != nil {
		return "", bad
	}
	if u.Scheme != "https" || u.User != nil || u.Opaque != "" || (u.Path != "" && u.Path != "/") ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", bad
	}
	host := u.Hostname()
	if !hostForm.MatchString(host) {
		return "", bad // IPv6 literals too: brackets are glob characters, and certificates rarely name them
	}
	port := u.Port()
	if port == "" || port == "443" {
		return "https://" + host, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", bad
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// CheckPin checks the form of a CA pin.
func CheckPin(pin string) error {
	if !pinForm.MatchString(pin) {
		return fault.New(fault.Invalid, "CA pin: want sha256: and 43 characters of base64url")
	}
	return nil
}
