// Package fault owns errors that carry a code and words for the person who asked. An error without a code is internal:
// its text goes to the log once and never to a user. Mapping codes to HTTP statuses or exit codes is the work of the
// packages that speak to those.
package fault

import (
	"errors"
	"fmt"
)

// Code says what kind of thing went wrong; part of the admin API's promise.
type Code string

// The codes. Internal is what an error without a code has.
const (
	Invalid     Code = "invalid"     // the input is wrong; Message says what, where and what to do
	NotFound    Code = "not_found"   // no such thing in this tenant
	Exists      Code = "exists"      // the name is taken
	Denied      Code = "denied"      // known, and not allowed
	Unauthentic Code = "unauthentic" // who is asking is not known
	Conflict    Code = "conflict"    // spent, raced, or changed in between
	Exhausted   Code = "exhausted"   // a limit or throttle is reached; later it may go through
	Unavailable Code = "unavailable" // something this needs does not answer now
	Internal    Code = "internal"    // a fault of ours
)

// Error is an error with a code and a message that may be shown to whoever caused it.
type Error struct {
	Code    Code
	Message string
	cause   error
}

// New returns an error whose message is safe to show.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because attaches what lies behind, for the log; it is never shown.
func (e *Error) Because(cause error) *Error {
	return &Error{Code: e.Code, Message: e.Message, cause: cause}
}

func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.cause.Error()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the outermost *Error in err's chain; Internal if there is none, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var f *Error
	if errors.As(err, &f) {
		return f.Code
	}
	return Internal
}

// Is reports whether err carries code.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }

// Public returns what may be shown of err: its message, or constant words for an internal one.
func Public(err error) string {
	var f *Error
	if errors.As(err, &f) && f.Code != Internal {
		return f.Message
	}
	return "something went wrong on our side"
}
