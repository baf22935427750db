package adminapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	adminv1connect "github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// callLimit bounds a call; the slowest wait for a mail server, which has 30 s unless mail.timeout says otherwise.
const callLimit = 45 * time.Second

// idleLimit is for how long a connection waits for the next call: who dials for every call leaves none at the edge.
const idleLimit = 5 * time.Second

// Dial returns a client of the edge whose socket is at path. Nothing is sent yet.
func Dial(path string) adminv1connect.AdminServiceClient {
	client := &http.Client{
		Timeout: callLimit,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
			IdleConnTimeout: idleLimit,
		},
	}
	return adminv1connect.NewAdminServiceClient(client, "http://edge")
}

// Unavailable reports that the edge answered a call, and said that something it needs does not: its store, in most cases.
func Unavailable(err error) bool {
	return connect.IsWireError(err) && connect.CodeOf(err) == connect.CodeUnavailable
}

// Explain turns an error of a call into words for a terminal. What the edge answered comes back as the *fault.Error that it
// was there; other errors than those of a call stay as they are.
func Explain(path string, err error) error {
	var answered *connect.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answered):
		return err
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.Unavailable, "no edge answers at %s: is it running (edge serve), and is --state-dir the same?", path)
	case errors.Is(err, os.ErrPermission):
		return fault.New(fault.Denied, "%s: permission denied: run this as root or as the edge's own user", path)
	case !connect.IsWireError(err) && answered.Code() == connect.CodeDeadlineExceeded:
		return fault.New(fault.Unavailable, "the edge at %s did not answer within %s; what was asked may have been done", path, callLimit)
	}
	for code, wire := range codes {
		if wire == answered.Code() {
			return fault.New(code, "%s", answered.Message())
		}
	}
	return errors.New(answered.Message())
}
