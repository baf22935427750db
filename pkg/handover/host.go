package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// network is SOCK_SEQPACKET: messages keep their bounds.
const network = "unixpacket"

// maxPath is how long the path of a Unix socket may be (unix(7): sun_path, with its final zero).
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// Listen opens the socket, mode 0600, in place of one that a process left which is gone.
func Listen(path string) (*net.UnixListener, error) {
	fresh := filepath.Join(filepath.Dir(path), ".new.sock")
	if longest := max(len(path), len(fresh)); longest > maxPath {
		return nil, fmt.Errorf("hand-over socket: %s: a path of %d bytes, a Unix socket may have %d: choose a shorter directory", path, longest, maxPath)
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: fresh, Net: network})
	if err != nil {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("hand-over socket: %w", err), l.Close())
	}
	return l, nil
}

// Host is the running process's side.
type Host struct {
	Listener *net.UnixListener
	Software string
	// Offer opens what a successor gets; the host closes its copies. An error refuses the successor, with its words.
	Offer func() (Files, error)
	// Withdraw undoes what Offer began, after a successor that did not get ready.
	Withdraw func()
	// Yield stops accepting and reading. It is called at most once, when a successor is ready to serve; after it Serve
	// returns.
	Yield func(successor int)
	// Restart starts a successor and returns when it serves, or with why it does not. Nil refuses.
	Restart func(ctx context.Context) error
	Logger  *zap.Logger
	// Count counts what became of connections: "refused", "failed", "yielded", "restart". May be nil.
	Count func(result string)

	busy    sync.Mutex // held by the one successor that is under way
	yielded chan struct{}
	once    sync.Once
}

// Serve answers at the socket until ctx ends, or until the place was given away; yielded says which.
func (h *Host) Serve(ctx context.Context) (yielded bool, err error) {
	h.yielded = make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = h.Listener.SetDeadline(time.Now()) }) // not Close: a successor may hold it, too
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	go func() {
		select {
		case <-h.yielded:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		c, err := h.Listener.AcceptUnix()
		if err == nil {
			serving.Go(func() { h.serve(ctx, conn{c}) })
			continue
		}
		select {
		case <-h.yielded: // first: it ends ctx as well
			return true, nil
		default:
		}
		if ctx.Err() != nil {
			return false, nil
		}
		return false, fmt.Errorf("hand-over socket: %w", err)
	}
}

// serve speaks with one peer.
func (h *Host) serve(ctx context.Context, c conn) {
	defer func() { _ = c.Close() }()
	if err := ours(c.UnixConn); err != nil {
		h.count("refused")
		h.Logger.Warn("a stranger at the hand-over socket was refused", zap.Error(err))
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(helloLimit))
	m, files, err := c.receive()
	if err != nil {
		h.count("refused")
		h.Logger.Warn("hand-over refused", zap.Error(err))
		_ = c.send(message{Kind: kindNo, Why: err.Error()}, nil)
		return
	}
	files.Close() // nobody has any to give to us
	switch m.Kind {
	case kindRestart:
		h.restart(ctx, c)
	case kindHello:
		err = h.handOver(ctx, c, m)
	default:
		err = fmt.Errorf("hand-over: %s is no beginning", m.Kind)
	}
	if err != nil {
		h.count("failed")
		h.Logger.Error("hand-over failed: this process goes on as before", zap.Int("successor", m.PID), zap.Error(err))
		_ = c.send(message{Kind: kindNo, Why: err.Error()}, nil)
	}
}

// handOver gives the place to a successor, or returns why it did not.
func (h *Host) handOver(ctx context.Context, c conn, hello message) error {
	if !h.busy.TryLock() {
		return errors.New("another successor is getting ready")
	}
	defer h.busy.Unlock()
	select {
	case <-h.yielded:
		return errors.New("this process has given its place away already")
	default:
	}
	h.Logger.Info("a successor asks for the place", zap.Int("successor", hello.PID), zap.String("version", hello.Software))
	files, err := h.Offer()
	if err != nil {
		return err
	}
	err = c.send(message{Kind: kindOffer, Software: h.Software, PID: os.Getpid()}, files)
	files.Close()
	if err == nil {
		err = h.awaitReady(ctx, c)
	}
	if err != nil {
		h.Withdraw()
		return err
	}
	h.Yield(hello.PID)
	h.once.Do(func() { close(h.yielded) })
	h.count("yielded")
	// A successor that dies just now leaves nobody: there is no way back once both might read.
	if err := c.send(message{Kind: kindYours}, nil); err != nil {
		h.Logger.Error("the successor went away as it was given the place", zap.Error(err))
	}
	return nil
}

func (h *Host) awaitReady(ctx context.Context, c conn) error {
	_ = c.SetReadDeadline(time.Now().Add(ReadyLimit))
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	m, files, err := c.receive()
	files.Close()
	switch {
	case ctx.Err() != nil:
		return errors.New("the running process was asked to stop meanwhile")
	case errors.Is(err, errGone):
		return errors.New("the successor ended before it was ready; its own log says why")
	case err != nil:
		return err
	case m.Kind == kindNo:
		return fmt.Errorf("the successor could not start: %s", m.Why)
	case m.Kind != kindReady:
		return fmt.Errorf("hand-over: %s in place of ready", m.Kind)
	}
	return nil
}

func (h *Host) restart(ctx context.Context, c conn) {
	h.count("restart")
	err := errors.New("this process cannot start its successor")
	if h.Restart != nil {
		err = h.Restart(ctx)
	}
	if err != nil {
		_ = c.send(message{Kind: kindNo, Why: err.Error()}, nil)
		return
	}
	_ = c.send(message{Kind: kindDone}, nil)
}

func (h *Host) count(result string) {
	if h.Count != nil {
		h.Count(result)
	}
}

// ours checks whose process is at the other end: root's, or one of our own user. The socket's mode says the same; this holds
// even where somebody changed that.
func ours(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var errCred error
	if err := raw.Control(func(fd uintptr) { cred, errCred = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if errCred != nil {
		return errCred
	}
	return permitted(cred.Uid, os.Geteuid())
}

func permitted(uid uint32, own int) error {
	if uid != 0 && int(uid) != own {
		return fmt.Errorf("hand-over: user %d is neither root nor this process's own", uid)
	}
	return nil
}
