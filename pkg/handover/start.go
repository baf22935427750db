package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// startLimit bounds the start of a successor.
const startLimit = ReadyLimit + 10*time.Second

// startedBy names, in a successor's environment, the process that started it.
const startedBy = "SALLYPORT_PREDECESSOR"

// Start starts this program once more, as it was started, from the file that is there now; an upgrade has replaced it. It
// returns when yielded is closed, which is when the successor serves, or with why it never will. It is what Host.Restart is for.
func Start(ctx context.Context, yielded <-chan struct{}) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("successor: %w", err)
	}
	program = strings.TrimSuffix(program, " (deleted)") // Linux's word for a file that was replaced
	cmd := exec.Command(program, os.Args[1:]...)        //nolint:noctx // it outlives us
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = append(inheritable(os.Environ()), startedBy+"="+strconv.Itoa(os.Getpid()))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("successor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-yielded:
		return nil
	case err := <-ended:
		return fmt.Errorf("the successor ended before it was ready (%w); the log says why", err)
	case <-limit.C:
		_ = cmd.Process.Kill()
		return errors.New("the successor was not ready in time")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inheritable leaves out what names this process's id, which would be another's.
func inheritable(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(v string) bool {
		return strings.HasPrefix(v, "WATCHDOG_PID=") || strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, startedBy+"=")
	})
}

// Started reports whether Start started this process, and the process that did so still runs.
func Started() bool { return os.Getenv(startedBy) == strconv.Itoa(os.Getppid()) }
