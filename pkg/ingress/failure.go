package ingress

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// The states of an origin, in /ready and in heartbeats. They are public words without addresses.
const (
	StateUnchecked   = "unchecked"   // nothing is known yet
	StateOK          = "ok"          // it answers
	StateBusy        = "busy"        // it answers, and exchanges wait for their turn
	StateRefused     = "refused"     // it takes no connection
	StateTimeout     = "timeout"     // it takes connections and does not answer
	StateCertificate = "certificate" // its certificate is not the expected one, or has expired
	StateError       = "error"       // it answers with an error, or breaks off
)

// failure is an exchange that did not come to a whole answer: a code of the wire, words without addresses for the page
// and the edge's log, and what lies behind for the connector's own log.
type failure struct {
	code, message string
	cause         error
	// state is the state of an origin that fails so; empty says nothing about it.
	state string
	// unsent means that nothing of the exchange has left the connector: another origin may be asked.
	unsent bool
}

func fail(code, message string, cause error) *failure {
	return &failure{code: code, message: message, cause: cause}
}

// failUnsent is a failure before a byte of the exchange was written.
func failUnsent(state, code, message string, cause error) *failure {
	return &failure{code: code, message: message, cause: cause, state: state, unsent: true}
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
	if ctx.Err() != nil {
		return fail(wire.CodeClientAbort, "the exchange was given up", context.Cause(ctx))
	}
	return explain(err)
}

// explain finds the code for what the origin did.
func explain(err error) *failure {
	var known *failure
	switch {
	case errors.As(err, &known):
		return known
	case isTimeout(err):
		return &failure{code: wire.CodeOriginTimeout, message: "the clinic's server did not answer in time", cause: err, state: StateTimeout}
	case isBroken(err):
		return &failure{code: wire.CodeOriginAbort, message: "the clinic's server broke off", cause: err, state: StateError}
	}
	return fail(wire.CodeOriginProtocol, "the clinic's server gave an answer that cannot be passed on", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isBroken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// dialFailure says why no connection came to be. All of it is before a byte of the exchange was sent, which is what
// E-ORIGIN-REFUSED promises to whoever was saving something.
func dialFailure(err error) *failure {
	if isTimeout(err) {
		return failUnsent(StateTimeout, wire.CodeOriginRefused, "the clinic's server did not take the connection in time", err)
	}
	return failUnsent(StateRefused, wire.CodeOriginRefused, "the clinic's server takes no connection", err)
}

// handshakeFailure tells a server that hangs or dies in the handshake from one that shows the wrong certificate: sending
// somebody to look at certificates would be wrong for the first.
func handshakeFailure(err error) *failure {
	switch {
	case isTimeout(err):
		return failUnsent(StateTimeout, wire.CodeOriginRefused, "the clinic's server took the connection and then kept silent", err)
	case isBroken(err):
		return failUnsent(StateRefused, wire.CodeOriginRefused, "the clinic's server closed the connection at once", err)
	}
	return failUnsent(StateCertificate, wire.CodeOriginTLS, "no trusted TLS connection to the clinic's server", err)
}

// opened turns what a circuit opened for into what exchanges are told while it is open: nothing was sent for them.
func (f *failure) opened() *failure {
	code := wire.CodeOriginRefused
	if f.code == wire.CodeOriginTLS {
		code = f.code
	}
	return failUnsent(f.state, code, "the clinic's server has not answered for a while, so nothing was sent to it", f.cause)
}
