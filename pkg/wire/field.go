package wire

import (
	"strings"

	"golang.org/x/net/http/httpguts"
)

// MaxFields is how many fields one head or trailer may have.
const MaxFields = 512

// FieldAllowed reports whether a header field called name may be an entry of a head. What frames or routes a message
// on one hop has its own place in the head, or none: if it could travel as an entry too, the two sides might one day
// read one message in two ways (RFC 9112 §6, RFC 9110 §7.6.1).
func FieldAllowed(name string) bool {
	if !httpguts.ValidHeaderFieldName(name) {
		return false
	}
	is := func(reserved string) bool { return strings.EqualFold(name, reserved) }
	switch len(name) {
	case 2:
		return !is("te")
	case 4:
		return !is("host")
	case 7:
		return !is("trailer") && !is("upgrade")
	case 10:
		return !is("keep-alive") && !is("connection")
	case 14:
		return !is("content-length") && !is("http2-settings")
	case 16:
		return !is("proxy-connection")
	case 17:
		return !is("transfer-encoding")
	}
	return true
}

// TrailerAllowed reports whether name may be a trailer field: not one that frames, routes, authenticates, or says how
// to read what has been read already (RFC 9110 §6.5.1), and no cookie.
func TrailerAllowed(name string) bool {
	if !FieldAllowed(name) || !httpguts.ValidTrailerHeader(canonical(name)) {
		return false
	}
	switch strings.ToLower(name) {
	case "cookie", "set-cookie", "location":
		return false
	}
	return true
}

// ValueAllowed reports whether value may be a field value: no CR, LF, NUL or other control character but the tab
// (RFC 9110 §5.5). Bytes from 0x80 up are allowed.
func ValueAllowed(value string) bool { return httpguts.ValidHeaderFieldValue(value) }

// checkHeader takes h as entries of a head. Errors name the field, never its value: values are what must not leak.
func checkHeader(h Header) error {
	if len(h) > MaxFields {
		return violationf("header: more than %d fields", MaxFields)
	}
	for i := range h {
		if !FieldAllowed(h[i].Name) {
			return violationf("header: %.40q is not allowed as an entry", h[i].Name)
		}
		if !ValueAllowed(h[i].Value) {
			return violationf("header: the value of %.40q holds a control character", h[i].Name)
		}
	}
	return nil
}

func checkTrailer(h Header) error {
	if err := checkHeader(h); err != nil {
		return err
	}
	for i := range h {
		if !TrailerAllowed(h[i].Name) {
			return violationf("trailer: %.40q is not allowed", h[i].Name)
		}
	}
	return nil
}

func checkTrailerNames(names []string) error {
	if len(names) > MaxFields {
		return violationf("trailer names: more than %d", MaxFields)
	}
	for _, name := range names {
		if !TrailerAllowed(name) {
			return violationf("trailer names: %.40q is not allowed", name)
		}
	}
	return nil
}

// canonical writes a valid field name the way httpguts compares it: Like-This.
func canonical(name string) string {
	b := []byte(name)
	up := true
	for i, c := range b {
		switch {
		case up && 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !up && 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		up = c == '-'
	}
	return string(b)
}
