package tunnel

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// UnknownName is what a peer means that ends the handshake with TLS's alert unrecognized_name: nothing is wrong with who dials.
const UnknownName = "what answers there has no certificate for this name: the edge was renamed, or its certificate lacks the name"

// Why a link ends. Their order is the wire's: ReasonCode n travels as closeBase + n, so a new one goes to the end.
const (
	ReasonGoodbye    = "goodbye"    // this side is done for now and dials again
	ReasonDrain      = "drain"      // this edge empties itself; dial another one
	ReasonRevoked    = "revoked"    // the connector's enrolment is over
	ReasonSuperseded = "superseded" // a newer generation has taken over
	ReasonProtocol   = "protocol"   // the peer broke the rules
	ReasonTimeout    = "timeout"    // the peer has not been heard for too long
	ReasonLost       = "lost"       // the network or the peer's process is gone
	ReasonShutdown   = "shutdown"   // this process stops
	ReasonRefused    = "refused"    // the peer does not want this link; asking again at once is useless
)

const (
	// closeBase starts the range that RFC 6455 §7.4.2 leaves to applications. QUIC's application error codes
	// (RFC 9000 §20.2) carry the same numbers, so that one table serves both transports.
	closeBase = 4000
	// maxReasonText is what fits beside the code in a WebSocket close frame (RFC 6455 §5.5).
	maxReasonText = 123
	// maxRetryAfter bounds what a peer may ask a connector to wait.
	maxRetryAfter = time.Hour
)

func reasonCodes() [9]string {
	return [...]string{
		ReasonGoodbye, ReasonDrain, ReasonRevoked, ReasonSuperseded, ReasonProtocol,
		ReasonTimeout, ReasonLost, ReasonShutdown, ReasonRefused,
	}
}

// Reason says why a link ends, to the peer, to the log and to whoever waits for the link.
type Reason struct {
	// Code is one of the Reason constants.
	Code string
	// Message is for people, in plain words; the wire carries about 100 bytes of it.
	Message string
	// RetryAfter asks the peer not to dial again before; whole seconds, at most an hour. 0: as it likes.
	RetryAfter time.Duration
}

func (r Reason) String() string {
	if r.Message == "" {
		return r.Code
	}
	return r.Code + ": " + r.Message
}

// Wire returns what both transports send: a number and at most 123 bytes of text, "retry-seconds message".
func (r Reason) Wire() (code uint16, text string) {
	code = closeBase + 6 // lost
	for i, c := range reasonCodes() {
		if c == r.Code {
			code = closeBase + uint16(i)
		}
	}
	seconds := int64(min(max(r.RetryAfter, 0), maxRetryAfter) / time.Second)
	text = strconv.FormatInt(seconds, 10) + " " + printable(r.Message)
	for len(text) > maxReasonText {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return code, text
}

// ParseReason reads what Wire wrote. The text comes from the peer: it is bounded and stripped of what could forge a log
// line. A number that this version does not know reads as lost.
func ParseReason(code uint64, text string) Reason {
	r := Reason{Code: ReasonLost}
	codes := reasonCodes()
	known := code >= closeBase && code < closeBase+uint64(len(codes))
	if !known {
		r.Message = fmt.Sprintf("closed by the peer with code %d", code)
		return r
	}
	r.Code = codes[code-closeBase]
	if len(text) > maxReasonText {
		text = text[:maxReasonText]
	}
	retry, message, _ := strings.Cut(text, " ")
	if seconds, err := strconv.ParseUint(retry, 10, 32); err == nil {
		r.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	r.Message = printable(message)
	return r
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s)
}

// ClosedError is a link's cause, and what every call on an ended link and its streams returns.
type ClosedError struct {
	Reason Reason
	// Remote is true if the peer said so, false if this side found or decided it.
	Remote bool
	// Err is what the transport reported, for the log; may be nil.
	Err error
}

func (e *ClosedError) Error() string {
	who := "link closed here: "
	if e.Remote {
		who = "link closed by the peer: "
	}
	if e.Err == nil {
		return who + e.Reason.String()
	}
	return who + e.Reason.String() + ": " + e.Err.Error()
}

// Unwrap gives the transport's error to errors.Is and errors.As.
func (e *ClosedError) Unwrap() error { return e.Err }
