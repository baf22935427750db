package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"connectrpc.com/connect"

	adminv1connect "github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// Dial returns a client of the edge whose socket is at path. Nothing is sent yet.
func Dial(path string) adminv1connect.AdminServiceClient {
	client := &http.Client{
		Timeout: 30 * time.Second, // the slowest call waits for a mail server
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
		},
	}
	return adminv1connect.NewAdminServiceClient(client, "http://edge")
}

// Explain turns an error of a call into words for a terminal.
func Explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no edge answers at %s: is it running (edge serve), and is --state-dir the same?", path)
	case errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: permission denied: run this as root or as the edge's own user", path)
	}
	var coded *connect.Error
	if errors.As(err, &coded) {
		return errors.New(coded.Message())
	}
	return err
}
