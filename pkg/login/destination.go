package login

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// The bounds of a destination.
const (
	// destinationLife is how long somebody may take from the first page to the code.
	destinationLife = time.Hour
	// maxTarget bounds the path and query that survive a sign-in, bytes; longer ones lead to the app's start page.
	maxTarget = 4 << 10
	// maxCarried bounds a destination as it travels, beside a code, in a target of 8 KiB: a target that seals to more than
	// that (JSON writes some characters as six) leads to the app's start page, or there would be no way to sign in for it.
	maxCarried = 7 << 10
	// maxSealed bounds what a browser may bring back.
	maxSealed = 8 << 10
)

// destination is where a browser goes after it has signed in. It travels sealed, so that neither history nor logs of the
// sign-in host show a path, and nobody can make one up.
type destination struct {
	App     id.App    `json:"a"`
	Name    string    `json:"n"` // of the app, for the pages on the way
	Host    string    `json:"h"`
	Target  string    `json:"p"`
	Flow    string    `json:"f"` // secret.Hash of the flow cookie
	Expires time.Time `json:"e"`
	// Direct is true when the person came by an own act or from the app itself, not from a foreign site.
	Direct bool `json:"d,omitempty"`
}

// purpose begins with the tenant: another tenant's destination does not open.
func purpose(t id.Tenant, what string) string { return string(t) + "/login/" + what }

func (l *Login) sealJSON(t id.Tenant, what string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sealed, err := l.Sealer.Seal(purpose(t, what), plain)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (l *Login) openJSON(t id.Tenant, what, text string, v any) bool {
	if text == "" || len(text) > maxSealed {
		return false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return false
	}
	plain, err := l.Sealer.Open(purpose(t, what), sealed)
	return err == nil && json.Unmarshal(plain, v) == nil
}

// openDestination returns the destination in text; nil when it is none of ours. It may have expired.
func (l *Login) openDestination(t id.Tenant, text string) *destination {
	var d destination
	if !l.openJSON(t, "to", text, &d) {
		return nil
	}
	return &d
}

func (l *Login) expired(d *destination) bool { return !l.Now().Before(d.Expires) }

// backPath is where a sign-in beside a page with unsaved work ends.
const backPath = web.Prefix + "back"

// landing returns target if it may be returned to, and the app's start page for anything odd. Browsers read "//e", "/\e" and
// their encodings as another host or another path; a target that could be read in two ways is none.
func landing(target, appPath string) string {
	if target == backPath || safeTarget(target, appPath) {
		return target
	}
	return appPath
}

func safeTarget(target, appPath string) bool {
	if len(target) > maxTarget || !strings.HasPrefix(target, "/") {
		return false
	}
	for i := range len(target) {
		// '#' would be cut off by the browser; the rest has no business in a request line or a header.
		if c := target[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`\#"<>`, c) >= 0 {
			return false
		}
	}
	path, _, _ := strings.Cut(target, "?")
	if strings.Contains(path, "//") || !plainEscapes(path) {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return false
		}
	}
	if under(path, strings.TrimSuffix(web.Prefix, "/")) {
		return false
	}
	return appPath == "/" || under(path, appPath)
}

// under reports whether path is prefix or below it, per segment.
func under(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// plainEscapes refuses percent escapes that hide a separator, a dot, a percent sign or a control character.
func plainEscapes(path string) bool {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) {
			return false
		}
		high, low := unhex(path[i+1]), unhex(path[i+2])
		if high < 0 || low < 0 {
			return false
		}
		if c := high<<4 | low; c <= ' ' && c != ' ' || c == 0x7f || strings.IndexByte(`/\.%;`, byte(c)) >= 0 {
			return false
		}
		i += 2
	}
	return true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
