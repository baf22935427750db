package ingress

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// Explain says in words which rule a public URL meets and what becomes of it; for `connector ingress rule URL`.
func (rs *Rules) Explain(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%q is not a URL; give it as people type it: https://oscar.clinic.example/oscar/", rawURL)
	}
	target, refusal := urlpath.Parse(u.RequestURI(), urlpath.Options{})
	if refusal != nil {
		return "the edge refuses this address (400): " + refusal.Error() + "\n", nil //nolint:nilerr // that is the explanation
	}
	matched, index := rs.Match(u.Host, target.Path)
	var b strings.Builder
	for i := range index {
		r := &rs.list[i]
		why := "the path is not under " + r.Path
		if r.Host != "" && r.Host != canonicalHost(u.Host) {
			why = "the host is not " + r.Host
		}
		fmt.Fprintf(&b, "rule %d (line %d) does not match: %s\n", r.Index, r.Line, why)
	}
	fmt.Fprintf(&b, "matches %s\n", matched)
	switch {
	case matched.denies(target.Path, target.RawQuery):
		b.WriteString("the preset refuses this page: 403\n")
	case matched.Origin != nil:
		fmt.Fprintf(&b, "asks %s with Host: %s\n", matched.Origin, u.Host)
	}
	return b.String(), nil
}
