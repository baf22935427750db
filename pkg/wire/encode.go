package wire

import "google.golang.org/protobuf/encoding/protowire"

// The messages of exchange frames are encoded by hand with protowire, byte for byte what the generated code of
// proto/tunnel/v1 would accept and write (a test compares them): a head costs no allocation to write and three to
// read, where generated messages would cost one per field. As in proto3, zero values are left out.

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendSint(b []byte, field protowire.Number, v int64) []byte {
	return appendUint(b, field, protowire.EncodeZigZag(v))
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	return appendUint(b, field, protowire.EncodeBool(v))
}

func appendStrings(b []byte, field protowire.Number, list []string) []byte {
	for _, s := range list {
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendString(b, s)
	}
	return b
}

func appendHeader(b []byte, field protowire.Number, h Header) []byte {
	for i := range h {
		size := sizeString(1, h[i].Name) + sizeString(2, h[i].Value)
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size))
		b = appendString(b, 1, h[i].Name)
		b = appendString(b, 2, h[i].Value)
	}
	return b
}

func sizeString(field protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(len(s))
}

func (h *RequestHead) append(b []byte) []byte {
	b = appendUint(b, 1, h.Exchange)
	b = appendString(b, 2, h.RequestID)
	b = appendString(b, 3, h.Tenant)
	b = appendString(b, 4, h.Site)
	b = appendString(b, 5, h.App)
	b = appendString(b, 6, h.Method)
	b = appendString(b, 7, h.Scheme)
	b = appendString(b, 8, h.Host)
	b = appendString(b, 9, h.Path)
	b = appendString(b, 10, h.RawQuery)
	b = appendBool(b, 11, h.HasQuery)
	b = appendHeader(b, 12, h.Header)
	b = appendSint(b, 13, h.ContentLength)
	b = appendString(b, 14, h.Upgrade)
	b = appendBool(b, 15, h.ExpectContinue)
	b = appendString(b, 16, h.ClientIP)
	b = appendString(b, 17, h.Assertion)
	b = appendString(b, 18, h.OriginAssertion)
	b = appendUint(b, 19, uint64(h.Hop))
	b = appendStrings(b, 20, h.TrailerNames)
	b = appendUint(b, 21, h.Generation)
	b = appendString(b, 22, h.Connector)
	return appendBool(b, 23, h.Again)
}

func (h *ResponseHead) append(b []byte) []byte {
	b = appendUint(b, 1, uint64(h.Status))
	b = appendHeader(b, 2, h.Header)
	b = appendSint(b, 3, h.ContentLength)
	b = appendString(b, 4, h.Upgrade)
	b = appendStrings(b, 5, h.TrailerNames)
	return appendString(b, 6, h.ErrorCode)
}

func (i *Interim) append(b []byte) []byte {
	b = appendUint(b, 1, uint64(i.Status))
	return appendHeader(b, 2, i.Header)
}

func (e *End) append(b []byte) []byte {
	b = appendString(b, 1, e.Code)
	b = appendString(b, 2, e.Message)
	return appendHeader(b, 3, e.Trailer)
}

func (m *Moved) append(b []byte) []byte {
	b = appendUint(b, 1, m.Offset)
	b = appendUint(b, 2, uint64(m.Lane))
	return appendUint(b, 3, uint64(m.Stripes))
}

func (c *Continuation) append(b []byte) []byte {
	b = appendUint(b, 1, c.Exchange)
	b = appendUint(b, 2, c.Generation)
	b = appendUint(b, 3, c.Offset)
	b = appendUint(b, 4, uint64(c.Stripe))
	return appendUint(b, 5, uint64(c.Stripes))
}
