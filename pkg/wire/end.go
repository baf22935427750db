package wire

import "unicode/utf8"

// maxMessage bounds End.Message in bytes.
const maxMessage = 1 << 10

// End is the last frame of a body in its direction. The zero value says that the body is whole.
type End struct {
	// Code is empty, or one of the codes: the body was broken off.
	Code string
	// Message says more in plain words for the log and the error page: no addresses, no secrets.
	Message string
	// Trailer goes with a whole body only.
	Trailer Header
}

// Validate refuses what may not travel.
func (e *End) Validate() error {
	if len(e.Message) > maxMessage || !utf8.ValidString(e.Message) || !ValueAllowed(e.Message) {
		return violationf("end: message")
	}
	if e.Code == "" {
		if e.Message != "" {
			return violationf("end: message without a code")
		}
		return checkTrailer(e.Trailer)
	}
	if len(e.Trailer) > 0 {
		return violationf("end: trailer after a broken body")
	}
	return checkCode(e.Code)
}
