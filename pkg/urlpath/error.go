package urlpath

import "github.com/sallyport-dev/sallyport/pkg/fault"

// Reason says which rule a target or query broke. It is for records and metrics; the public words do not repeat it,
// because telling a stranger which reading was refused helps to find one that is not.
type Reason string

// The reasons.
const (
	TooLong      Reason = "too-long"            // longer than MaxTarget
	NotOrigin    Reason = "not-origin-form"     // absolute, authority or asterisk form, or nothing
	BadByte      Reason = "bad-byte"            // a byte that may not stand there unescaped
	BadEscape    Reason = "bad-escape"          // "%" without two hexadecimal digits
	Escaped      Reason = "escaped-structure"   // an escape of a control or of / \ % ; .
	DotSegment   Reason = "dot-segment"         // "." or ".."
	EmptySegment Reason = "empty-segment"       // "//"
	NotText      Reason = "not-text"            // not UTF-8, or a character that is no text
	SessionID    Reason = "session-id"          // ";jsessionid=" where Options refuse it
	BadPair      Reason = "bad-pair"            // a query pair without a name or with a bad escape
	TooMany      Reason = "too-many-parameters" // more than MaxParameters
)

// Error is a refused target or query. It holds none of the client's bytes.
type Error struct{ Reason Reason }

func (e *Error) Error() string { return "non-canonical target: " + string(e.Reason) }

// Unwrap gives the code and the words that may be shown.
func (e *Error) Unwrap() error {
	return fault.New(fault.Invalid, "The address has a form that this server does not accept.")
}
