package wire

import "strings"

// Field is one header or trailer field.
type Field struct{ Name, Value string }

// Header is a list of fields in the order in which they travel. Names are compared without regard to case (RFC 9110
// §5.1) and kept as they were given. The zero value is empty.
type Header []Field

// Get returns the first value of name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Values returns all values of name in order; nil for none.
func (h Header) Values(name string) []string {
	var values []string
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			values = append(values, h[i].Value)
		}
	}
	return values
}

// Has reports whether name occurs, even with an empty value.
func (h Header) Has(name string) bool {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Add appends a field. It checks nothing; Validate of the head does.
func (h *Header) Add(name, value string) { *h = append(*h, Field{Name: name, Value: value}) }

// Del removes every field called name. It works in place.
func (h *Header) Del(name string) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !strings.EqualFold(f.Name, name) {
			kept = append(kept, f)
		}
	}
	clear((*h)[len(kept):])
	*h = kept
}
