// Command connector runs beside a clinic's server and carries it to the clinic's edge; it only ever dials out.
//
// Exit codes: 0 done · 1 it failed, and the error says why; doctor: there are problems · 2 the command line or the configuration is wrong · 3 run: the
// enrolment was revoked at the edge, and dialling on is useless · 4 ready: not ready · 5 service status: not running.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

// Exit codes beside 0 and 1.
const (
	exitUsage      = 2
	exitNotReady   = 4
	exitNotRunning = 5
)

func main() {
	if slices.Contains(os.Args, "run") { // before signals are caught; to any other command it does no harm
		if err := run.Slack(); err != nil {
			fmt.Fprintln(os.Stderr, "connector: running will cost more processor time:", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "connector:", text)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	var usage *usageError
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, connector.ErrRevoked):
		return service.ExitRevoked
	case errors.As(err, &usage), fault.Is(err, fault.Invalid):
		return exitUsage
	}
	return 1
}

// usageError is a fault of the command line or the configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitError ends the program with a code; what there was to say was printed.
type exitError struct{ code int }

func (*exitError) Error() string { return "" }
