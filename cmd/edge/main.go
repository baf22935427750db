// Command edge is the public relay of Sallyport: `edge init` prepares a machine, `edge serve` runs it, and everything else
// is a client of the running edge over its admin socket.
//
// Exit codes: 0 done · 1 it failed, and the error says why · 2 the command line or the configuration is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/run"
)

func main() {
	if slices.Contains(os.Args, "serve") { // before signals are caught; to any other command it does no harm
		if err := run.Slack(); err != nil {
			fmt.Fprintln(os.Stderr, "edge: serving will cost more processor time:", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil || errors.Is(err, errShown) {
		return
	}
	fmt.Fprintln(os.Stderr, "edge:", err)
	os.Exit(exitCode(err))
}

// exitCode counts as wrong usage whatever stopped a command before it began, and what the edge calls invalid.
func exitCode(err error) int {
	var failed *commandError
	if !errors.As(err, &failed) || fault.Is(err, fault.Invalid) {
		return 2
	}
	return 1
}

// commandError is what a command that had begun ended with.
type commandError struct{ err error }

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// errShown ends a command whose settings were shown instead.
var errShown = errors.New("the settings were shown")
