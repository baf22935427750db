package wire

// Each parse function turns the payload of one frame into its message and validates it.

func (h *RequestHead) parse(payload []byte) error {
	*h = RequestHead{}
	d := newDecoder(payload)
	for d.next() {
		d.uint(1, &h.Exchange)
		d.string(2, &h.RequestID)
		d.string(3, &h.Tenant)
		d.string(4, &h.Site)
		d.string(5, &h.App)
		d.string(6, &h.Method)
		d.string(7, &h.Scheme)
		d.string(8, &h.Host)
		d.string(9, &h.Path)
		d.raw(10, &h.RawQuery)
		d.bool(11, &h.HasQuery)
		d.header(12, payload, &h.Header)
		d.sint(13, &h.ContentLength)
		d.string(14, &h.Upgrade)
		d.bool(15, &h.ExpectContinue)
		d.string(16, &h.ClientIP)
		d.string(17, &h.Assertion)
		d.string(18, &h.OriginAssertion)
		d.uint32(19, &h.Hop)
		d.strings(20, &h.TrailerNames)
		d.uint(21, &h.Generation)
		d.string(22, &h.Connector)
		d.bool(23, &h.Again)
	}
	if d.err != nil {
		return d.err
	}
	return h.Validate()
}

func (h *ResponseHead) parse(payload []byte) error {
	*h = ResponseHead{}
	d := newDecoder(payload)
	var status uint32
	for d.next() {
		d.uint32(1, &status)
		d.header(2, payload, &h.Header)
		d.sint(3, &h.ContentLength)
		d.string(4, &h.Upgrade)
		d.strings(5, &h.TrailerNames)
		d.string(6, &h.ErrorCode)
	}
	if d.err != nil {
		return d.err
	}
	h.Status = int(status)
	return h.Validate()
}

func (i *Interim) parse(payload []byte) error {
	*i = Interim{}
	d := newDecoder(payload)
	var status uint32
	for d.next() {
		d.uint32(1, &status)
		d.header(2, payload, &i.Header)
	}
	if d.err != nil {
		return d.err
	}
	i.Status = int(status)
	return i.Validate()
}

func (e *End) parse(payload []byte) error {
	*e = End{}
	d := newDecoder(payload)
	for d.next() {
		d.string(1, &e.Code)
		d.string(2, &e.Message)
		d.header(3, payload, &e.Trailer)
	}
	if d.err != nil {
		return d.err
	}
	return e.Validate()
}

func (m *Moved) parse(payload []byte) error {
	*m = Moved{}
	d := newDecoder(payload)
	var lane uint32
	for d.next() {
		d.uint(1, &m.Offset)
		d.uint32(2, &lane)
		d.uint32(3, &m.Stripes)
	}
	if d.err != nil {
		return d.err
	}
	m.Lane = Lane(lane)
	return m.Validate()
}

func (c *Continuation) parse(payload []byte) error {
	*c = Continuation{}
	d := newDecoder(payload)
	for d.next() {
		d.uint(1, &c.Exchange)
		d.uint(2, &c.Generation)
		d.uint(3, &c.Offset)
		d.uint32(4, &c.Stripe)
		d.uint32(5, &c.Stripes)
	}
	if d.err != nil {
		return d.err
	}
	return c.Validate()
}
