package exchange

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// AbortError says that an exchange did not come to its end. Every error of Do, of a body and of an upgraded connection
// is one (io.EOF aside, which means that all of it arrived).
type AbortError struct {
	// Code is one of wire's error codes.
	Code string
	// Message is what the peer said, or what this side found, in plain words.
	Message string
	cause   error
}

func (e *AbortError) Error() string {
	text := "exchange aborted: " + e.Code
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the cause: a *tunnel.ClosedError, a *tunnel.ResetError, wire.ErrProtocol, or what ended the context.
func (e *AbortError) Unwrap() error { return e.cause }

// Code returns the wire code of an error of this package; wire.CodeInternal if it has none, "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	var abort *AbortError
	if errors.As(err, &abort) {
		return abort.Code
	}
	return wire.CodeInternal
}

// side says whose fault it is when the peer gives a stream up without a word.
type side string

const (
	atEdge      side = wire.CodeOriginAbort
	atConnector side = wire.CodeClientAbort
)

// abort turns whatever ended an exchange on this side into an *AbortError. The context comes first: when it ended, the
// stream was reset because of it.
func (s side) abort(ctx context.Context, err error) *AbortError {
	var (
		abort  *AbortError
		reset  *tunnel.ResetError
		closed *tunnel.ClosedError
	)
	switch {
	case errors.As(err, &abort):
		return abort
	case errors.As(err, &closed):
		return &AbortError{Code: wire.CodeTunnelDown, cause: err}
	case ctx.Err() != nil:
		return &AbortError{Code: wire.CodeClientAbort, Message: "given up here", cause: context.Cause(ctx)}
	case errors.Is(err, wire.ErrProtocol):
		return &AbortError{Code: wire.CodeProtocol, cause: err}
	case errors.As(err, &reset):
		return &AbortError{Code: s.resetCode(reset.Code), cause: err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &AbortError{Code: wire.CodeProtocol, Message: "the stream ended before its end frame", cause: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &AbortError{Code: wire.CodeTunnelDown, Message: "the peer did not answer in time", cause: err}
	}
	return &AbortError{Code: wire.CodeTunnelDown, cause: err}
}

func (s side) resetCode(code tunnel.ResetCode) string {
	switch code {
	case tunnel.ResetCancelled:
		return string(s)
	case tunnel.ResetProtocol:
		return wire.CodeProtocol
	case tunnel.ResetTimeout:
		return wire.CodeTunnelDown
	}
	return wire.CodeInternal
}

// resetFor says how a stream is given up because of err.
func resetFor(err error) tunnel.ResetCode {
	if errors.Is(err, wire.ErrProtocol) || errors.Is(err, io.ErrUnexpectedEOF) {
		return tunnel.ResetProtocol
	}
	return tunnel.ResetCancelled
}
