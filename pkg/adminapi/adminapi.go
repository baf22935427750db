// Package adminapi owns how an operator's call reaches admin: Connect over a Unix socket that only the edge's own user (and
// root) may open, checked by the socket's mode and by the peer's credentials. It turns messages into calls and faults into
// Connect codes; what the actions do is admin's.
package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	adminv1connect "github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// maxMessage bounds a call; lists of names are the longest.
const maxMessage = 1 << 20

// Server serves the API. It implements adminv1connect.AdminServiceHandler, one file for each noun.
type Server struct {
	admin *admin.Service
	log   *zap.Logger
}

var _ adminv1connect.AdminServiceHandler = (*Server)(nil)

// New returns a server over the service.
func New(a *admin.Service, log *zap.Logger) *Server { return &Server{admin: a, log: log} }

// Listen opens the socket, mode 0600. A socket left behind by a process that is gone is replaced; one that answers is not.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("admin socket %s: another edge answers there", path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	// Bound under another name and moved once its mode is right: at no moment can a stranger open it.
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	return l, nil
}

// drainLimit is how long calls that are under way have once the edge stops; it is less than a part of the process has.
const drainLimit = 3 * time.Second

// Serve answers calls on l until ctx ends; it returns when those under way are done, or cut after drainLimit.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle(adminv1connect.NewAdminServiceHandler(s, connect.WithReadMaxBytes(maxMessage), connect.WithInterceptors(faults(s.log))))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: zap.NewStdLog(s.log), ConnContext: withPeer,
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
		defer cancel()
		if err := server.Shutdown(limit); err != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-drained // the store is closed next: no call may still be using it
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

type peerKey struct{}

// withPeer notes whose process opened the connection (SO_PEERCRED).
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid := -1
	if u, ok := conn.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					uid = int(cred.Uid)
				}
			})
		}
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// faults refuses callers other than the edge's user and root, and gives faults their Connect codes. What lies behind a fault
// of ours goes to the log, the caller gets its public words.
func faults(log *zap.Logger) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			uid, ok := ctx.Value(peerKey{}).(int)
			if !ok || (uid != 0 && uid != os.Getuid()) {
				return nil, connect.NewError(connect.CodePermissionDenied, errors.New("only root and the edge's own user may administer it"))
			}
			resp, err := next(ctx, req)
			if err == nil {
				return resp, nil
			}
			if why := reason(err); why != nil {
				log.Error("administration failed", zap.String("call", req.Spec().Procedure), zap.Error(why))
			}
			return nil, connect.NewError(codes[fault.CodeOf(err)], errors.New(fault.Public(err)))
		}
	}
}

// reason is what the log must hold of a call's error: all of an internal one, and what lies behind the words of one that
// something else caused. The words themselves stay out: they may name a person.
func reason(err error) error {
	switch fault.CodeOf(err) {
	case fault.Internal:
		return err
	case fault.Unavailable:
		return errors.Unwrap(err)
	}
	return nil
}

// codes maps faults to Connect codes; the table is never changed.
var codes = map[fault.Code]connect.Code{
	fault.Invalid: connect.CodeInvalidArgument, fault.NotFound: connect.CodeNotFound, fault.Exists: connect.CodeAlreadyExists,
	fault.Denied: connect.CodePermissionDenied, fault.Unauthentic: connect.CodeUnauthenticated, fault.Conflict: connect.CodeAborted,
	fault.Exhausted: connect.CodeResourceExhausted, fault.Unavailable: connect.CodeUnavailable, fault.Internal: connect.CodeInternal,
}
