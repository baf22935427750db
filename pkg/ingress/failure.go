package ingress

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// failure is an exchange that did not come to a whole answer: a code of the wire, words without addresses for the page
// and the edge's log, and what lies behind for the connector's own log.
type failure struct {
	code, message string
	cause         error
}

func fail(code, message string, cause error) *failure {
	return &failure{code: code, message: message, cause: cause}
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.message
	}
	return f.message + ": " + f.cause.Error()
}

// Unwrap gives the cause.
func (f *failure) Unwrap() error { return f.cause }

// classify finds the code for whatever ended an exchange.
func classify(ctx context.Context, err error) *failure {
	var known *failure
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return fail(wire.CodeClientAbort, "the exchange was given up", context.Cause(ctx))
	case errors.As(err, &known):
		return known
	case errors.As(err, &timeout) && timeout.Timeout():
		return fail(wire.CodeOriginTimeout, "the clinic's server did not answer in time", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		return fail(wire.CodeOriginAbort, "the clinic's server broke off", err)
	}
	return fail(wire.CodeOriginProtocol, "the clinic's server gave an answer that cannot be passed on", err)
}
