package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"edge": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			sink, err := edgetest.NewSink("127.0.0.1:0", filepath.Join(env.WorkDir, "mail-ca.pem"))
			if err != nil {
				return err
			}
			env.Defer(func() { _ = sink.Close() })
			env.Setenv("MAIL_PORT", strconv.Itoa(sink.Port()))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "answers": answers, "keep": keep, "database": database(t)},
	})
}

// exits CODE ARGS… runs the edge and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("edge", args[1:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// answers SOCKET waits until an edge answers there.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	limit, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", ts.MkAbs(args[0]))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-limit:
			ts.Fatalf("no edge: %v", err)
		case <-tick.C:
		}
	}
}

// database NAME puts the URL of a new PostgreSQL database into a variable.
func database(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], pgtest.Database(t)) }
}

// keep NAME PATTERN puts what the pattern's group matched of standard output into a variable.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("no %s in the output", args[1])
	}
	ts.Setenv(args[0], found[1])
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		1: &commandError{errors.New("x")},
		2: &commandError{fault.New(fault.Invalid, "x")},
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := exitCode(errors.New("before a command began")); got != 2 {
		t.Errorf("usage: %d", got)
	}
}

func TestWhatOthersChoseStaysOutOfTheTerminal(t *testing.T) {
	if got := printable("Maple\x1b[2J\u009b\x7f\n"); got != "Maple·[2J···" {
		t.Errorf("%q", got)
	}
}
