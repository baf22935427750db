package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// supervisor keeps processes running, the way systemd would.
type supervisor struct {
	ctx    context.Context
	cancel context.CancelFunc
	logs   string
	order  []*process
}

type process struct {
	name string
	args []string
	env  []string
	done chan struct{}
	mu   sync.Mutex // guards cmd
	cmd  *exec.Cmd
}

const (
	restartAfter = time.Second
	stopWithin   = 35 * time.Second // the programs drain for 30
)

func newSupervisor(ctx context.Context, logs string) *supervisor {
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
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	return nil
}

func (s *supervisor) keep(p *process, log *os.File) {
	defer close(p.done)
	defer log.Close()
	for {
		err := p.cmd.Wait()
		if s.ctx.Err() != nil {
			return
		}
		fmt.Printf("%s ended (%v); starting it again\n", p.name, err)
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(restartAfter):
		}
		if err := p.launch(log); err != nil {
			fmt.Printf("%s: %v\n", p.name, err)
			return
		}
	}
}

// stopAll ends the processes, last first, each with the time it needs to drain.
func (s *supervisor) stopAll() {
	s.cancel()
	for i := len(s.order) - 1; i >= 0; i-- {
		p := s.order[i]
		p.mu.Lock()
		pid := p.cmd.Process.Pid
		p.mu.Unlock()
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(stopWithin):
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			<-p.done
		}
	}
}
