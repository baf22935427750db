package wslink

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// closedError says what an error of the connection or the session means.
func closedError(err error) *tunnel.ClosedError {
	var (
		known  *tunnel.ClosedError
		closed websocket.CloseError
		op     *net.OpError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &closed):
		return &tunnel.ClosedError{Reason: tunnel.ParseReason(uint64(closed.Code), closed.Reason), Remote: true, Err: err}
	case errors.As(err, &op) && op.Op == "remote error" && strings.HasSuffix(op.Err.Error(), "unrecognized name"): // its type is not exported
		return &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonRefused, Message: tunnel.UnknownName}, Remote: true, Err: err}
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert: in TLS 1.3 it comes after the client's handshake
		return &tunnel.ClosedError{
			Reason: tunnel.Reason{Code: tunnel.ReasonRefused, Message: "the peer refused us in TLS: the enrolment is revoked or not known there"},
			Remote: true, Err: err,
		}
	case brokeRules(err):
		return &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "broken WebSocket or yamux"}, Err: err}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, yamux.ErrConnectionWriteTimeout):
		return &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the connection takes no bytes"}, Err: err}
	}
	return &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonLost, Message: "the connection is gone"}, Err: err}
}

// goAwayText is yamux's error for a peer that says we broke the rules; it has no value of its own.
const goAwayText = "yamux protocol error"

func brokeRules(err error) bool {
	for _, broken := range []error{
		yamux.ErrInvalidVersion, yamux.ErrInvalidMsgType, yamux.ErrRecvWindowExceeded, yamux.ErrDuplicateStream,
		yamux.ErrUnexpectedFlag, websocket.ErrMessageTooBig, errText, errPings,
	} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return err.Error() == goAwayText
}

// refused says what an answer other than 101 means: 4xx is the edge's word on us; anything else may come from whatever
// stands in between, and is worth another try.
func refused(resp *http.Response) *tunnel.ClosedError {
	reason := tunnel.Reason{Code: tunnel.ReasonLost, Message: "the edge answered " + resp.Status}
	if resp.StatusCode >= 400 && resp.StatusCode < 500 {
		reason.Code = tunnel.ReasonRefused
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		reason.RetryAfter = time.Duration(seconds) * time.Second
	}
	return &tunnel.ClosedError{Reason: reason, Remote: true}
}
