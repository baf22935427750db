package wire

// ResponseHead is the final answer's head.
type ResponseHead struct {
	// Status is 200 to 999, or 101 together with Upgrade.
	Status int
	Header Header
	// ContentLength in bytes; -1: unknown. For HEAD, 204 and 304 it is only passed on: no body follows.
	ContentLength int64
	Upgrade       string
	TrailerNames  []string
	// ErrorCode is one of the codes when the connector itself answers and not the origin.
	ErrorCode string
}

// Validate refuses what may not travel.
func (h *ResponseHead) Validate() error {
	if switching := h.Status == 101; switching != (h.Upgrade != "") {
		return violationf("response head: status %d with upgrade %.20q", h.Status, h.Upgrade)
	}
	if h.Status != 101 && (h.Status < 200 || h.Status > 999) {
		return violationf("response head: status %d", h.Status)
	}
	if h.Upgrade != "" && !validUpgrade(h.Upgrade) {
		return violationf("response head: upgrade %.20q", h.Upgrade)
	}
	if h.ContentLength < -1 {
		return violationf("response head: content length %d", h.ContentLength)
	}
	if h.ErrorCode != "" {
		if err := checkCode(h.ErrorCode); err != nil {
			return err
		}
	}
	if err := checkTrailerNames(h.TrailerNames); err != nil {
		return err
	}
	return checkHeader(h.Header)
}

// Interim is an informational answer (RFC 9110 §15.2) that goes before the final one.
type Interim struct {
	// Status is 100 or 102 to 199; 101 is a final answer here.
	Status int
	Header Header
}

// Validate refuses what may not travel.
func (i *Interim) Validate() error {
	if i.Status < 100 || i.Status > 199 || i.Status == 101 {
		return violationf("interim: status %d", i.Status)
	}
	return checkHeader(i.Header)
}
