package wire

// What the fuzz targets of the external test package reach.
func (h *RequestHead) Parse(b []byte) error   { return h.parse(b) }
func (h *RequestHead) Append(b []byte) []byte { return h.append(b) }

func (h *ResponseHead) Parse(b []byte) error   { return h.parse(b) }
func (h *ResponseHead) Append(b []byte) []byte { return h.append(b) }

func (i *Interim) Parse(b []byte) error   { return i.parse(b) }
func (i *Interim) Append(b []byte) []byte { return i.append(b) }

func (e *End) Parse(b []byte) error   { return e.parse(b) }
func (e *End) Append(b []byte) []byte { return e.append(b) }

func (m *Moved) Parse(b []byte) error   { return m.parse(b) }
func (m *Moved) Append(b []byte) []byte { return m.append(b) }

func (c *Continuation) Parse(b []byte) error   { return c.parse(b) }
func (c *Continuation) Append(b []byte) []byte { return c.append(b) }
