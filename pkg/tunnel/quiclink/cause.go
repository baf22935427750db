package quiclink

import (
	"errors"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// closedError says what an error of a connection means. A client whose certificate the edge refuses learns it only
// after its own handshake has completed, as a CRYPTO_ERROR (RFC 9001 §4.8): that is a refusal, not a network that
// failed, and must not lead to a fall-back.
func closedError(err error) *tunnel.ClosedError {
	closed := &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonLost, Message: "the connection is gone"}, Err: err}
	var (
		application *quic.ApplicationError
		transport   *quic.TransportError
		idle        *quic.IdleTimeoutError
		handshake   *quic.HandshakeTimeoutError
		reset       *quic.StatelessResetError
		version     *quic.VersionNegotiationError
	)
	switch {
	case errors.As(err, &application):
		closed.Reason = tunnel.ParseReason(uint64(application.ErrorCode), application.ErrorMessage)
		closed.Remote = application.Remote
	case errors.As(err, &transport):
		closed.Reason = transportReason(transport)
		closed.Remote = transport.Remote
	case errors.As(err, &idle), errors.As(err, &handshake):
		closed.Reason = tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the peer does not answer"}
	case errors.As(err, &reset):
		closed.Reason.Message = "the peer no longer knows this link; it was probably restarted"
		closed.Remote = true
	case errors.As(err, &version):
		closed.Reason = tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "no common version of QUIC"}
		closed.Remote = true
	}
	return closed
}

// refusedRetry is when to come back after CONNECTION_REFUSED, with which nothing can be said: an edge that has too many at its
// door will have dealt with some.
const refusedRetry = time.Second

// unknownName is TLS's alert unrecognized_name (RFC 6066, section 3; 112) as QUIC carries alerts (RFC 9001, section 4.8).
const unknownName = quic.TransportErrorCode(0x100 + 112)

func transportReason(err *quic.TransportError) tunnel.Reason {
	switch {
	case err.ErrorCode == unknownName && err.Remote:
		return tunnel.Reason{Code: tunnel.ReasonRefused, Message: tunnel.UnknownName}
	case err.ErrorCode.IsCryptoError() && err.Remote:
		return tunnel.Reason{Code: tunnel.ReasonRefused, Message: "the peer refused us in TLS: the enrolment is revoked or not known there"}
	case err.ErrorCode.IsCryptoError():
		return tunnel.Reason{Code: tunnel.ReasonRefused, Message: "the peer's certificate is not accepted here"}
	case err.ErrorCode == quic.ConnectionRefused:
		return tunnel.Reason{Code: tunnel.ReasonRefused, Message: "the peer takes no connections now", RetryAfter: refusedRetry}
	case err.ErrorCode == quic.NoError:
		return tunnel.Reason{Code: tunnel.ReasonGoodbye}
	}
	return tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "broken QUIC"}
}
