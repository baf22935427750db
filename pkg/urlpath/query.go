package urlpath

import "strings"

// MaxParameters is how many parameters a query or form may have; origins refuse more as well.
const MaxParameters = 1000

// Param is one parameter, decoded. A value that is not UTF-8 keeps its bytes.
type Param struct{ Name, Value string }

// Values are the parameters of a query or form in the order in which they stood, duplicates included: which of two the
// origin takes is its own matter, so whoever judges must look at all of them.
type Values []Param

// Get returns the first value of name, "" if there is none. Names are case-sensitive.
func (v Values) Get(name string) string {
	for _, p := range v {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Has reports whether name occurs.
func (v Values) Has(name string) bool {
	for _, p := range v {
		if p.Name == name {
			return true
		}
	}
	return false
}

// All returns every value of name, in order.
func (v Values) All(name string) []string {
	var all []string
	for _, p := range v {
		if p.Name == name {
			all = append(all, p.Value)
		}
	}
	return all
}

// ParseQuery reads a raw query or a urlencoded form as Tomcat does: pairs end at "&" only, so that ";" belongs to a value;
// "+" and "%xx" are decoded in names and values; nothing between two "&" is nothing. Where Tomcat would drop a pair (bad
// escape, value without a name), or there are more than MaxParameters, it returns an *Error: the reading is in doubt.
func ParseQuery(raw string) (Values, error) {
	var values Values
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if len(values) == MaxParameters {
			return nil, &Error{Reason: TooMany}
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, nameOK := unescape(rawName)
		value, valueOK := unescape(rawValue)
		if !nameOK || !valueOK || rawName == "" {
			return nil, &Error{Reason: BadPair}
		}
		values = append(values, Param{name, value})
	}
	return values, nil
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b.WriteByte(' ')
		case '%':
			c, ok := unhex(s[i+1:])
			if !ok {
				return "", false
			}
			b.WriteByte(c)
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), true
}
