package hop

import "strings"

// Cookies takes the cookies out of one Cookie line whose names are ours; what stays keeps its bytes and order. It cuts at
// every semicolon, as browsers and servers do (RFC 6265 §5.4): a quote does not hold one together. False means that
// nothing is left.
func Cookies(line string, ours func(name string) bool) (string, bool) {
	if !anyCookie(line, ours) {
		return line, strings.Trim(line, " \t;") != ""
	}
	var b strings.Builder
	b.Grow(len(line))
	for part := range strings.SplitSeq(line, ";") {
		trimmed := strings.Trim(part, " \t")
		if trimmed == "" || ours(cookieName(trimmed)) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(trimmed)
	}
	return b.String(), b.Len() > 0
}

func anyCookie(line string, ours func(string) bool) bool {
	for part := range strings.SplitSeq(line, ";") {
		if ours(cookieName(strings.Trim(part, " \t"))) {
			return true
		}
	}
	return false
}

// cookieName returns what a server would take as the name. A nameless pair ("=a=b", or "a" alone) counts by its value:
// browsers send it without the first "=", and it then reads as a named one.
func cookieName(pair string) string {
	name, value, _ := strings.Cut(pair, "=")
	if name = strings.Trim(name, " \t"); name == "" {
		name, _, _ = strings.Cut(value, "=")
		name = strings.Trim(name, " \t")
	}
	return strings.Trim(name, `"`)
}

// SetCookie returns an origin's Set-Cookie line as it may reach a browser: without Domain, so that it stays on this host,
// with Secure, everything else as it was. False means that the line is dropped: its name is ours, or it has none and its
// value would read as one.
func SetCookie(line string, ours func(name string) bool) (string, bool) {
	pair, rest, _ := strings.Cut(line, ";")
	if name := cookieName(strings.Trim(pair, " \t")); name == "" || ours(name) {
		return "", false
	}
	var b strings.Builder
	b.Grow(len(line) + len("; Secure"))
	b.WriteString(strings.TrimRight(pair, " \t"))
	secure := false
	for attribute := range strings.SplitSeq(rest, ";") {
		key, _, _ := strings.Cut(attribute, "=")
		switch key = strings.ToLower(strings.Trim(key, " \t")); key {
		case "", "domain":
			continue
		case "secure":
			secure = true
		}
		b.WriteByte(';')
		b.WriteString(attribute)
	}
	if !secure {
		b.WriteString("; Secure")
	}
	return b.String(), true
}
