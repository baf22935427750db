package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Claim is the successor's side: what the running process gave, and the way to say that one is ready.
type Claim struct {
	// Files are what was handed over; the successor closes what it does not use.
	Files Files
	// Software and PID are the running process's.
	Software string
	PID      int
	conn     conn
}

// errNobody is a socket at which no process answers.
var errNobody = errors.New("hand-over: no process runs here")

// Ask asks the process that listens at path for its place. It returns nil without an error when there is none.
func Ask(ctx context.Context, path, software string) (*Claim, error) {
	c, err := dial(ctx, path)
	if errors.Is(err, errNobody) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	m, files, err := c.ask(ctx, message{Kind: kindHello, Software: software, PID: os.Getpid()})
	if err == nil && m.Kind != kindOffer {
		err = fmt.Errorf("hand-over: %s in place of an offer", m.Kind)
	}
	if err != nil {
		files.Close()
		_ = c.Close()
		return nil, err
	}
	return &Claim{Files: files, Software: m.Software, PID: m.PID, conn: c}, nil
}

func dial(ctx context.Context, path string) (conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return conn{}, errNobody
	}
	if err != nil {
		return conn{}, fmt.Errorf("hand-over socket: %w", err)
	}
	return conn{c.(*net.UnixConn)}, nil
}

// answerLimit is how long a process may take to answer a successor: what it has to do for that takes milliseconds.
const answerLimit = time.Minute

// ask sends a message and reads the answer to it; a no is an error, and so is the end of ctx.
func (c conn) ask(ctx context.Context, m message) (message, Files, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.send(m, nil); err != nil {
		return message{}, nil, err
	}
	answer, files, err := c.receive()
	switch {
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("the running process does not answer; if it hangs, end it: %w", ctx.Err())
	case err == nil && answer.Kind == kindNo:
		err = fmt.Errorf("the running process refuses: %s", answer.Why)
	}
	return answer, files, err
}

// Ready says that this process can serve, and returns when it should: the other one has let go, or is gone.
func (c *Claim) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	defer func() { _ = c.conn.Close() }()
	m, files, err := c.conn.ask(ctx, message{Kind: kindReady})
	files.Close()
	switch {
	case errors.Is(err, errGone), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return nil // it died; everything that it had is here
	case err != nil:
		return err
	case m.Kind != kindYours:
		return fmt.Errorf("hand-over: %s in place of yours", m.Kind)
	}
	return nil
}

// Fail tells the running process why nothing comes of it.
func (c *Claim) Fail(why error) {
	text := why.Error()
	_ = c.conn.send(message{Kind: kindNo, Why: text[:min(len(text), maxMessage/4)]}, nil)
	_ = c.conn.Close()
}

// Restart asks the process that listens at path to start its successor, and returns when that serves.
func Restart(ctx context.Context, path string) error {
	c, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	m, files, err := c.ask(ctx, message{Kind: kindRestart})
	files.Close()
	if err == nil && m.Kind != kindDone {
		err = fmt.Errorf("hand-over: %s in place of done", m.Kind)
	}
	return err
}
