package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"connector": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits}})
}

// exits CODE ARGS… runs the connector and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("connector", args[1:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		1: errors.New("x"),
		2: fault.New(fault.Invalid, "x"),
		3: fmt.Errorf("links: %w", connector.ErrRevoked),
		4: &exitError{exitNotReady},
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestServiceIsNotInstalledFromWhereItCannotRun(t *testing.T) {
	p := &program{config: *connector.Default()}
	for _, path := range []string{"/home/it/connector", "/root/connector", "/tmp/connector"} {
		if err := p.installable(func() (string, error) { return path, nil }); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", path, err)
		}
	}
	p.config.StateDir = t.TempDir()
	if err := p.installable(func() (string, error) { return "/usr/local/bin/connector", nil }); exitCode(err) != exitUsage {
		t.Errorf("another state directory: %v", err)
	}
}

// Whoever asks in the terminal learns why a lane has no link, and not from the JSON alone.
func TestReadySaysWhyALaneIsMissing(t *testing.T) {
	var out strings.Builder
	printStatus(&out, connector.Status{Status: connector.StatusNoLink, Lanes: map[string]string{
		"fast": "no link: this connector is frozen\nquic: refused", "bulk": "the proxy does not accept the password",
	}}, false)
	for _, want := range []string{"no link to the edge", "\n  bulk lane: the proxy does not accept the password\n  fast lane: no link: this connector is frozen; quic: refused\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it says %q, not %q", out.String(), want)
		}
	}
}
