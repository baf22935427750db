package diag

import (
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/connector"
)

const gone = "[removed]"

// scrubber takes out of texts what must not leave the building. Nothing should be in them in the first place: the log has no
// paths, the configuration shows no passwords. This is the second lock.
type scrubber struct {
	known []string
	forms []form
	local *regexp.Regexp
}

type form struct {
	what *regexp.Regexp
	with string
}

func newScrubber(c connector.Config) *scrubber {
	s := &scrubber{
		forms: []form{
			{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), gone},
			{regexp.MustCompile(`(--code[ =]+|"?\bcode"?\s*[:=]\s*"?)[A-Z2-7]{20,}`), "${1}" + gone}, // an invitation's
			{regexp.MustCompile(`(?i)((?:proxy-)?authorization:?\s+\S+\s+)\S+`), "${1}" + gone},
			{regexp.MustCompile(`\beyJ[\w-]+\.[\w-]+\.[\w-]*`), gone},                // a JWT
			{regexp.MustCompile(`(://[^\s/:@"]*):[^\s/@"]*@`), "${1}:" + gone + "@"}, // a URL's password
			{regexp.MustCompile(`(?i)(\bdemographic_?no\b["=:\s]+)\d+`), "${1}" + gone},
			{regexp.MustCompile(`\?[\w.%+~-]+=[^\s"'\\]*`), "?" + gone}, // a query
		},
		// A URL with its path, or an absolute path, with what stands before it.
		local: regexp.MustCompile(`(\w+://[^\s/"'\\]+)(/[^\s"'\\,;)]+)?|(^|[\s"'=(,:\[])(/[^\s"'\\,;)]+)`),
	}
	if c.ProxyPasswordFile != "" {
		if info, err := os.Stat(c.ProxyPasswordFile); err == nil && info.Size() < 1<<16 {
			text, err := os.ReadFile(c.ProxyPasswordFile)
			if password := strings.TrimSpace(string(text)); err == nil && len(password) > 2 {
				s.known = append(s.known, password, url.QueryEscape(password))
			}
		}
	}
	return s
}

func (s *scrubber) text(t string) string {
	for _, secret := range s.known {
		t = strings.ReplaceAll(t, secret, gone)
	}
	for _, f := range s.forms {
		t = f.what.ReplaceAllString(t, f.with)
	}
	return t
}

// paths takes the pages out of a log, and leaves the files of this machine.
func (s *scrubber) paths(t string) string {
	var b strings.Builder
	last := 0
	for _, m := range s.local.FindAllStringSubmatchIndex(t, -1) {
		keep, path := m[3], m[4]
		if m[2] < 0 {
			keep, path = m[7], m[8]
		}
		if path < 0 || m[2] < 0 && ofThisMachine(t[path:m[1]]) {
			continue // a URL without a path, or a file
		}
		b.WriteString(t[last:keep] + "/" + gone)
		last = m[1]
	}
	return b.String() + t[last:]
}

// ofThisMachine reports whether a path is one of a file that a connector's log may name.
func ofThisMachine(path string) bool {
	return slices.ContainsFunc([]string{"/etc/", "/var/lib/", "/usr/", "/run/", "/lib/"}, func(dir string) bool { return strings.HasPrefix(path, dir) })
}
