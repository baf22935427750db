// Package urlpath owns the one canonical form of a request target, and of a query. A target is accepted only if every
// server on its way reads it alike; what has two readings is refused, never repaired. The canonical string is what gets
// matched, judged, recorded, forwarded and checked again at the connector. It does not know routes or policies.
package urlpath

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxTarget is the longest request target accepted, in bytes: what origins take by default (facts: 8 KiB).
const MaxTarget = 8 << 10

// Options vary what Parse accepts. The zero value is the default.
type Options struct {
	// RefuseSessionID refuses a trailing ";jsessionid=…" instead of stripping it.
	RefuseSessionID bool
}

// Target is an accepted request target in its canonical form.
type Target struct {
	Path     string // starts with "/"; escapes only where RFC 3986 needs them, in upper case
	RawQuery string // the client's bytes: never re-encoded, re-ordered or dropped
	HasQuery bool   // tells "/x?" from "/x"

	SessionIDStripped bool // a session id stood at the end of the path; it is gone from Path and must not be logged
}

// String returns the target as it goes on the request line.
func (t Target) String() string {
	if !t.HasQuery {
		return t.Path
	}
	return t.Path + "?" + t.RawQuery
}

var sessionID = regexp.MustCompile(`;jsessionid=[0-9A-Za-z.]+$`)

// Parse reads a request target in origin form (RFC 9112 section 3.2.1) as it stood on the request line. It returns an
// *Error for every other form, for one longer than MaxTarget, and for one that two servers could read differently: dot
// or empty segments, path parameters, escapes of characters that structure a path, bytes that are not UTF-8 text.
func Parse(rawTarget string, opt Options) (Target, error) {
	if len(rawTarget) > MaxTarget {
		return Target{}, &Error{Reason: TooLong}
	}
	if !strings.HasPrefix(rawTarget, "/") {
		return Target{}, &Error{Reason: NotOrigin}
	}
	if !visible(rawTarget) {
		return Target{}, &Error{Reason: BadByte}
	}
	var t Target
	t.Path, t.RawQuery, t.HasQuery = strings.Cut(rawTarget, "?")
	if at := sessionID.FindStringIndex(t.Path); at != nil {
		if opt.RefuseSessionID {
			return Target{}, &Error{Reason: SessionID}
		}
		t.Path, t.SessionIDStripped = t.Path[:at[0]], true
	}
	var reason Reason
	if t.Path, reason = canonicalPath(t.Path); reason != "" {
		return Target{}, &Error{Reason: reason}
	}
	return t, nil
}

// Canonical reports whether t is accepted and already canonical to the byte: what Parse makes of t.String() is t. Callers that
// sign a target (OAuth 1.0a, RFC 5849 section 3.4.1.2) must send it so, because a re-encoded one no longer fits its signature.
func (t Target) Canonical() bool {
	size := len(t.Path) + len(t.RawQuery)
	if t.HasQuery {
		size++
	}
	if size > MaxTarget || t.RawQuery != "" && !t.HasQuery || !strings.HasPrefix(t.Path, "/") || strings.Contains(t.Path, "?") ||
		!visible(t.Path) || !visible(t.RawQuery) {
		return false
	}
	path, reason := canonicalPath(t.Path)
	return reason == "" && path == t.Path
}

// visible tells text of bytes that may stand in a target, of which none ends it.
func visible(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// HasPrefix reports whether path is prefix or lies below it, whole segments compared: "/a/b" holds "/a/b/c" but not
// "/a/bc". Both are canonical; a slash at the end of prefix makes no difference; a prefix without a leading slash holds
// nothing.
func HasPrefix(path, prefix string) bool {
	if !strings.HasPrefix(prefix, "/") {
		return false
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func canonicalPath(raw string) (string, Reason) {
	if plain(raw) {
		return raw, segments(raw)
	}
	decoded, reason := decode(raw)
	if reason != "" {
		return "", reason
	}
	// An escaped slash or dot was refused above, so decoding cannot have made or hidden a segment.
	if reason := segments(decoded); reason != "" {
		return "", reason
	}
	if !text(decoded) {
		return "", NotText
	}
	return encode(decoded), ""
}

// plain tells the usual path, which needs neither decoding nor encoding.
func plain(path string) bool {
	for i := range len(path) {
		if !literal(path[i]) {
			return false
		}
	}
	return true
}

// decode undoes the escapes of raw once.
func decode(raw string) (string, Reason) {
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if strings.IndexByte("\\;\"<>^`{|}", c) >= 0 {
			return "", BadByte
		}
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		d, ok := unhex(raw[i+1:])
		if !ok {
			return "", BadEscape
		}
		if d < ' ' || d == 0x7f || strings.IndexByte(`/\%;.`, d) >= 0 {
			return "", Escaped
		}
		b.WriteByte(d)
		i += 2
	}
	return b.String(), ""
}

// segments refuses "." and ".." and an empty segment; one slash at the end is fine.
func segments(path string) Reason {
	rest := path[1:]
	for rest != "" {
		segment, after, more := strings.Cut(rest, "/")
		switch segment {
		case "":
			return EmptySegment
		case ".", "..":
			return DotSegment
		}
		if !more {
			break
		}
		rest = after
	}
	return ""
}

// text refuses what is not UTF-8, and characters that decoders put in the place of others or that end a line for some.
func text(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if (r >= 0x80 && r <= 0x9f) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

const upperHex = "0123456789ABCDEF"

func encode(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/2)
	for i := range len(s) {
		if c := s[i]; literal(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// literal tells the bytes that stand for themselves in a canonical path: pchar of RFC 3986 section 3.3 and "/", without
// ";", which origins read as the start of parameters.
func literal(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("/-._~!$&'()*+,=:@", c) >= 0
}

func unhex(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := nibble(s[0]), nibble(s[1])
	return hi<<4 | lo&15, hi < 16 && lo < 16
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
