package wire

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// decoder walks over the fields of one message. It takes one copy of the payload as a string, of which all values are
// parts. A field of an unknown number, or of a known number in a wire type that we do not expect, is skipped as
// proto3 prescribes; the first violation ends the walk.
type decoder struct {
	text string // the whole message
	rest []byte // what is still to be read, inside the payload
	num  protowire.Number
	typ  protowire.Type
	// val is the value of the present field: a varint's number, or where in text a bytes field lies.
	val        uint64
	start, end int
	err        error
}

func newDecoder(payload []byte) decoder {
	return decoder{text: string(payload), rest: payload}
}

// sub walks the message in the present field.
func (d *decoder) sub(payload []byte) decoder {
	return decoder{text: d.text[d.start:d.end], rest: payload[d.start:d.end]}
}

// next moves to the next field; false at the end or after an error.
func (d *decoder) next() bool {
	if d.err != nil || len(d.rest) == 0 {
		return false
	}
	num, typ, n := protowire.ConsumeTag(d.rest)
	if n < 0 || num > protowire.MaxValidNumber {
		return d.fail("message: broken tag")
	}
	d.num, d.typ, d.rest = num, typ, d.rest[n:]
	switch typ {
	case protowire.VarintType:
		d.val, n = protowire.ConsumeVarint(d.rest)
	case protowire.BytesType:
		var size uint64
		if size, n = protowire.ConsumeVarint(d.rest); n >= 0 {
			if size > uint64(len(d.rest)-n) {
				return d.fail("message: a field is longer than its message")
			}
			d.start = len(d.text) - len(d.rest) + n
			d.end = d.start + int(size)
			n += int(size)
		}
	default:
		n = protowire.ConsumeFieldValue(num, typ, d.rest)
	}
	if n < 0 {
		return d.fail("message: broken field")
	}
	d.rest = d.rest[n:]
	return true
}

func (d *decoder) fail(text string) bool {
	if d.err == nil {
		d.err = violationf("%s", text)
	}
	return false
}

// is reports whether the present field has this number and wire type.
func (d *decoder) is(num protowire.Number, typ protowire.Type) bool {
	return d.num == num && d.typ == typ
}

func (d *decoder) uint(num protowire.Number, v *uint64) {
	if d.is(num, protowire.VarintType) {
		*v = d.val
	}
}

func (d *decoder) uint32(num protowire.Number, v *uint32) {
	if d.is(num, protowire.VarintType) {
		*v = uint32(d.val)
	}
}

func (d *decoder) sint(num protowire.Number, v *int64) {
	if d.is(num, protowire.VarintType) {
		*v = protowire.DecodeZigZag(d.val)
	}
}

func (d *decoder) bool(num protowire.Number, v *bool) {
	if d.is(num, protowire.VarintType) {
		*v = d.val != 0
	}
}

// raw takes a field of type bytes, string one of type string, which must be UTF-8.
func (d *decoder) raw(num protowire.Number, s *string) {
	if d.is(num, protowire.BytesType) {
		*s = d.text[d.start:d.end]
	}
}

func (d *decoder) string(num protowire.Number, s *string) {
	if !d.is(num, protowire.BytesType) {
		return
	}
	if *s = d.text[d.start:d.end]; !utf8.ValidString(*s) {
		d.fail("message: a text is not UTF-8")
	}
}

func (d *decoder) strings(num protowire.Number, list *[]string) {
	if !d.is(num, protowire.BytesType) {
		return
	}
	if len(*list) == MaxFields {
		d.fail("message: too many entries")
		return
	}
	var s string
	d.string(num, &s)
	*list = append(*list, s)
}

func (d *decoder) header(num protowire.Number, payload []byte, h *Header) {
	if !d.is(num, protowire.BytesType) {
		return
	}
	if len(*h) == MaxFields {
		d.fail("message: too many fields")
		return
	}
	if *h == nil {
		*h = make(Header, 0, countFields(num, payload))
	}
	var f Field
	sub := d.sub(payload)
	for sub.next() {
		sub.string(1, &f.Name)
		sub.raw(2, &f.Value)
	}
	if sub.err != nil {
		d.err = sub.err
	}
	*h = append(*h, f)
}

// countFields says how many fields numbered num a message holds, so that a header is allocated once.
func countFields(num protowire.Number, payload []byte) int {
	count := 0
	for len(payload) > 0 {
		got, _, n := protowire.ConsumeField(payload)
		if n < 0 {
			break
		}
		if got == num {
			count++
		}
		payload = payload[n:]
	}
	return min(count, MaxFields)
}
