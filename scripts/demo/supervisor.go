package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor keeps processes running, the way systemd would.
type supervisor struct {
	ctx    context.Context
	cancel context.CancelFunc
	logs   string
	order  []*process
	quiet  bool // do not tell of processes that end
}

type process struct {
	name string
	args []string
	env  []string
	done chan struct{}
	mu   sync.Mutex // guards all below
	runs *os.Process
	rest time.Duration // how long it stays away once it has ended; 0 means restartAfter
}

const (
	restartAfter = time.Second
	stopWithin   = 35 * time.Second // the programs drain for 30
)

func newSupervisor(ctx context.Context, logs string) *supervisor {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // without it a successor is not found again
	ctx, cancel := context.WithCancel(ctx)
	return &supervisor{ctx: ctx, cancel: cancel, logs: logs}
}

// start runs a command and starts it again, a second later, whenever it ends.
func (s *supervisor) start(name string, env []string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(s.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p := &process{name: name, args: args, env: env, done: make(chan struct{})}
	if err := p.launch(log); err != nil {
		return err
	}
	s.order = append(s.order, p)
	go s.keep(p, log)
	return nil
}

func (p *process) launch(log *os.File) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	// A group of its own: Ctrl-C goes to the demo, which stops the parts in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.set(cmd.Process)
	return nil
}

func (p *process) set(runs *os.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs = runs
}

// stayAway sets how long the process stays away when it ends next, and from then on.
func (p *process) stayAway(rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = rest
}

func (p *process) rests() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.rest, restartAfter)
}

// adopt finds a process that the one which ended has put in its place, as systemd does by MAINPID; orphans come to this process
// (newSupervisor).
func (p *process) adopt() bool {
	for _, pid := range children(os.Getpid()) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || string(line) != strings.Join(p.args, "\x00")+"\x00" {
			continue
		}
		if found, err := os.FindProcess(pid); err == nil {
			p.set(found)
			return true
		}
	}
	return false
}

func (s *supervisor) keep(p *process, log *os.File) {
	defer close(p.done)
	defer log.Close()
	for {
		ended, err := p.runs.Wait()
		if s.ctx.Err() != nil {
			return
		}
		if p.adopt() {
			continue
		}
		if !s.quiet {
			fmt.Printf("%s ended (%v, %v); starting it again\n", p.name, ended, err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(p.rests()):
		}
		if err := p.launch(log); err != nil {
			fmt.Printf("%s: %v\n", p.name, err)
			return
		}
	}
}

// crashes says which processes ended as no signal and no request to stop ends one: they are running again, and what the load missed
// may be little.
func (s *supervisor) crashes() (all []string) {
	for _, p := range s.order {
		path := filepath.Join(s.logs, p.name+".log")
		text, err := os.ReadFile(path)
		if err != nil {
			all = append(all, err.Error())
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
				all = append(all, fmt.Sprintf("%s crashed: %s (%s)", p.name, strings.TrimSpace(line), path))
			}
		}
	}
	return all
}

// reap takes leave of processes that have ended and were left to this one; those that it keeps it waits for elsewhere.
func (s *supervisor) reap() {
	for _, pid := range children(os.Getpid()) {
		if !slices.ContainsFunc(s.order, func(p *process) bool { return p.pid() == pid }) {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// named returns the process with a name.
func (s *supervisor) named(name string) *process {
	for _, p := range s.order {
		if p.name == name {
			return p
		}
	}
	return nil
}

// pid is that of the process as it runs now.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs.Pid
}

// stopAll ends the processes, last first, each with the time it needs to drain.
func (s *supervisor) stopAll() {
	s.cancel()
	for i := len(s.order) - 1; i >= 0; i-- {
		p := s.order[i]
		pid := p.pid()
		tell(pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(stopWithin):
			tell(pid, syscall.SIGKILL)
			<-p.done
		}
	}
}

// tell signals a process's group or, of one that took the place of another and is in that one's group, it alone.
func tell(pid int, what syscall.Signal) {
	if syscall.Kill(-pid, what) != nil {
		_ = syscall.Kill(pid, what)
	}
}
