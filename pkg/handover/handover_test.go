package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// hosted runs a host that offers one pipe, and returns where, and a channel that is closed when it has yielded.
func hosted(t *testing.T, h *Host) (path string, yielded chan struct{}) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "h.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	yielded = make(chan struct{})
	h.Listener, h.Software, h.Logger = l, "old", zap.NewNop()
	h.Yield = func(int) { close(yielded) }
	if h.Withdraw == nil {
		h.Withdraw = func() {}
	}
	if h.Offer == nil {
		h.Offer = func() (Files, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			_, _ = w.WriteString("handed over")
			return Files{"pipe": r}, w.Close()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { _, err := h.Serve(ctx); ended <- err }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = l.Close()
	})
	return path, yielded
}

func TestASuccessorGetsTheFilesAndThenThePlace(t *testing.T) {
	path, yielded := hosted(t, &Host{})
	c, err := Ask(t.Context(), path, "new")
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	text, err := io.ReadAll(c.Files["pipe"])
	if err != nil || string(text) != "handed over" || c.Software != "old" || c.PID != os.Getpid() {
		t.Errorf("%q %v %+v", text, err, c)
	}
	select {
	case <-yielded:
		t.Fatal("the place was given away before the successor was ready")
	default:
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-yielded
}

// askOnceFree asks until the host, which has withdrawn, has also returned.
func askOnceFree(t *testing.T, path string) (*Claim, error) {
	c, err := Ask(t.Context(), path, "new")
	for err != nil && strings.Contains(err.Error(), "another successor") {
		c, err = Ask(t.Context(), path, "new")
	}
	return c, err
}

func TestASuccessorThatFailsChangesNothing(t *testing.T) {
	withdrawn := make(chan struct{}, 2)
	path, yielded := hosted(t, &Host{Withdraw: func() { withdrawn <- struct{}{} }})
	for _, end := range []func(*Claim){func(c *Claim) { c.Fail(errors.New("bad configuration")) }, func(c *Claim) { _ = c.conn.Close() }} {
		c, err := askOnceFree(t, path)
		if err != nil {
			t.Fatal(err)
		}
		end(c)
		c.Files.Close()
		<-withdrawn
	}
	select {
	case <-yielded:
		t.Fatal("yielded")
	default:
	}
	c, err := askOnceFree(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOneSuccessorAtATime(t *testing.T) {
	path, _ := hosted(t, &Host{})
	first, err := Ask(t.Context(), path, "new")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), path, "new"); err == nil || !strings.Contains(err.Error(), "another successor") {
		t.Errorf("a second one: %v", err)
	}
	if err := first.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process that dies between offer and its answer leaves everything to the successor.
func TestAPredecessorThatDiesLeavesThePlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		_, _, _ = conn{c}.receive()
		_ = conn{c}.send(message{Kind: kindOffer}, nil)
		_, _, _ = conn{c}.receive()
		_ = c.Close()
	}()
	c, err := Ask(t.Context(), path, "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	if c, err := Ask(t.Context(), filepath.Join(dir, "none"), "x"); c != nil || err != nil {
		t.Error(c, err)
	}
	path := filepath.Join(dir, "stale")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if c, err := Ask(t.Context(), path, "x"); c != nil || err != nil {
		t.Error("a socket left behind:", c, err)
	}
}

func TestAPathThatIsTooLong(t *testing.T) {
	_, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("d", 100), "handover.sock"))
	if err == nil || !strings.Contains(err.Error(), "shorter directory") {
		t.Error(err)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	path, _ := hosted(t, &Host{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := permitted(1001, 1000); err == nil {
		t.Error("another user is let in")
	}
	if err := errors.Join(permitted(0, 1000), permitted(1000, 1000)); err != nil {
		t.Error(err)
	}
	for _, said := range []string{"GET / HTTP/1.1\r\n\r\n", `{"version":99,"kind":"hello"}`, `{"version":1,"kind":"ready"}`, `{"version":1,"kind":"hello","files":["x"]}`, strings.Repeat("x", maxMessage+1)} {
		c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		m, files, err := conn{c}.receive()
		if err != nil || m.Kind != kindNo || len(files) != 0 {
			t.Errorf("%.40q: %+v %v %v", said, m, files, err)
		}
		_ = c.Close()
	}
}

func TestRestartSaysHowItWent(t *testing.T) {
	fault := errors.New("no such program")
	path, _ := hosted(t, &Host{Restart: func(context.Context) error { return fault }})
	if err := Restart(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Error(err)
	}
	path, _ = hosted(t, &Host{Restart: func(context.Context) error { return nil }})
	if err := Restart(t.Context(), path); err != nil {
		t.Error(err)
	}
}

// A process that hangs holds up no successor for ever: it is told apart from one that is not there, and waiting can be given up.
func TestAPredecessorThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts: the kernel has taken the connection all the same
	for name, ask := range map[string]func(context.Context) error{
		"ask":     func(ctx context.Context) error { _, err := Ask(ctx, path, "new"); return err },
		"restart": func(ctx context.Context) error { return Restart(ctx, path) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx) }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s waits for ever", name)
		}
		cancel()
	}
}
