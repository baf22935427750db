package edgetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program of ours that a test starts, kills and starts again.
type Process struct {
	t    testing.TB
	name string
	args []string
	log  lockedBuffer

	mu   sync.Mutex // guards cmd and done
	cmd  *exec.Cmd
	done chan struct{}
}

// lockedBuffer takes a process's output while the test reads it.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startProcess starts a program that ends with the test; its output is shown when the test fails.
func startProcess(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, args: args}
	p.Start()
	t.Cleanup(func() {
		p.Stop()
		if strings.Contains("\n"+p.log.String(), "\npanic: ") { // it may have been started again, and the test have noticed nothing
			t.Errorf("%s crashed", name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(p.log.String(), 8<<10))
		}
	})
	return p
}

// lastWords is how long the output of a program that has ended is waited for.
const lastWords = time.Second

// Start starts the program again after Kill or Stop.
func (p *Process) Start() {
	p.t.Helper()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	said, say, err := os.Pipe()
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	cmd.Stdout, cmd.Stderr = say, say
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = errors.Join(cmd.Start(), say.Close())
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = io.Copy(&p.log, said)
		_ = said.Close()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
		select {
		case <-heard:
		case <-time.After(lastWords): // a successor that it started speaks on
		}
	}()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
}

// From has the program taken from another directory when it is started next, and by Successor.
func (p *Process) From(dir string) {
	p.args = slices.Clone(p.args)
	p.args[0] = filepath.Join(dir, filepath.Base(p.args[0]))
}

// Kill ends the program at once, as a crash would (SIGKILL).
func (p *Process) Kill() { p.end(syscall.SIGKILL, 5*time.Second) }

// Stop asks the program to end and waits for it to drain.
func (p *Process) Stop() { p.end(syscall.SIGTERM, 40*time.Second) }

// Signal sends a signal and goes on.
func (p *Process) Signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(sig)
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// ExitCode is the code of a program that has ended.
func (p *Process) ExitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.ProcessState.ExitCode()
}

// PID is the running program's.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Log is everything that the program has said.
func (p *Process) Log() string { return p.log.String() }

func (p *Process) end(sig syscall.Signal, within time.Duration) {
	p.Signal(sig)
	select {
	case <-p.Ended():
	case <-time.After(within):
		p.t.Errorf("%s did not end within %s of %s", p.name, within, sig)
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Successor starts the program once more beside this one, which it is to replace, and waits until it says that it runs.
func (p *Process) Successor() *Process {
	p.t.Helper()
	s := startProcess(p.t, p.name, p.args...)
	Eventually(p.t, "the successor to run", func() error {
		select {
		case <-s.Ended():
			p.t.Fatalf("the successor ended:\n%s", tail(s.Log(), 2<<10))
		default:
		}
		if !strings.Contains(s.Log(), `"edge runs"`) {
			return errors.New("not yet")
		}
		return nil
	})
	return s
}
