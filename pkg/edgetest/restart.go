package edgetest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// taken is what a process says whose place a successor has.
var taken = regexp.MustCompile(`"the place is the successor's[^}]*"successor":(\d+)`)

// Taken is the successor that has the place of a process, or of the last of its successors; 0 for none.
func (p *Process) Taken() (pid int) {
	found := taken.FindAllStringSubmatch(p.Log(), -1)
	if len(found) > 0 {
		pid, _ = strconv.Atoi(found[len(found)-1][1]) // digits
	}
	return pid
}

// RestartConnector runs connector restart; the process that then serves ends with the test.
func (w *World) RestartConnector() error {
	before := w.Connector.Taken()
	if out, err := w.TryConnector("restart"); err != nil {
		return fmt.Errorf("connector restart: %w: %s", err, strings.TrimSpace(out))
	}
	pid := 0
	w.Wait("the successor in the log", func() error {
		if pid = w.Connector.Taken(); pid == before {
			return errors.New("not yet")
		}
		return nil
	})
	w.t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		w.WaitGone(pid)
	})
	return nil
}

// WaitGone waits until a process has ended that need not be a child of this one.
func (w *World) WaitGone(pid int) {
	w.t.Helper()
	w.Wait(fmt.Sprintf("process %d to end", pid), func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		_, state, _ := strings.Cut(string(text), ") ")
		if strings.HasPrefix(state, "Z") { // nobody has reaped it
			return nil
		}
		return errors.New("it runs")
	})
}

// ConnectorProgram is the text of the program.
func (w *World) ConnectorProgram() []byte {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.bin, "connector"))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// InstallConnector puts a program in the place of the connector's, as an upgrade does: whole, by rename.
func (w *World) InstallConnector(text []byte) {
	w.t.Helper()
	next := w.path("connector-program.new")
	err := os.WriteFile(next, text, 0o700) //nolint:gosec // it is a program
	if err == nil {
		err = os.Rename(next, w.path("connector-program"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// AddConnector enrols another connector of the clinic, with the rules of the first, and starts it.
func (w *World) AddConnector() *Process {
	w.t.Helper()
	w.configureConnector("second")
	w.enroll("second")
	p := startProcess(w.t, "second connector", filepath.Join(w.bin, "connector"), "run", "--config", w.path("second.yaml"))
	w.WaitReady(p)
	return p
}

// WaitReady waits until /ready of a connector says so.
func (w *World) WaitReady(p *Process) {
	w.t.Helper()
	w.Wait("the connector to be ready", func() error {
		resp, err := http.Get(w.Loopback(p) + "/ready")
		if err != nil {
			return err
		}
		text, err := ReadAll(resp)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(text)
		}
		return err
	})
}
