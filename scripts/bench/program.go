package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this binary one of the parts of the benchmark; its JSON argument follows in argsEnv.
const (
	roleEnv = "SALLYPORT_BENCH_ROLE"
	// guest is who runs the programs in a namespace: nobody, so that they may do to their sockets what a service may.
	guest = 65534
)

// program is a process that the benchmark started, in a process group of its own.
type program struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// launch says how a program is started.
type launch struct {
	name string
	on   *host
	args []string
	env  []string
	// asGuest drops root, in a namespace.
	asGuest bool
}

// start starts a program; stop must be called.
func (b *bench) start(l launch) (*program, error) {
	args := l.args
	if l.asGuest && l.on.ns != nil {
		l.env = append(l.env, roleEnv+"=guest", "SALLYPORT_BENCH_HOSTS="+l.on.hosts)
		args = append([]string{b.self}, args...)
	}
	b.programs++
	p := &program{name: l.name, done: make(chan struct{}), log: filepath.Join(b.dir, fmt.Sprintf("%02d-%s.log", b.programs, l.name))}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), l.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.on.within(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// group is the process group: the program and whatever it started.
func (p *program) group() int { return p.cmd.Process.Pid }

// stop ends the program, at once if it would take its time to drain.
func (p *program) stop() {
	_ = syscall.Kill(-p.group(), syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-p.group(), syscall.SIGKILL)
	<-p.done
}

// tail is the end of what the program said.
func (p *program) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return string(text)
}

// becomeGuest is the role that puts the hosts file in place, drops root, and becomes the program that its arguments name.
func becomeGuest() error {
	runtime.LockOSThread()
	if hosts := os.Getenv("SALLYPORT_BENCH_HOSTS"); hosts != "" {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""),
		); err != nil {
			return fmt.Errorf("hosts file: %w", err)
		}
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(guest), syscall.Setuid(guest)); err != nil {
		return err
	}
	// Changing the user took this away again.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		return err
	}
	return syscall.Exec(path, os.Args[1:], os.Environ())
}

// ask runs this binary in a role on a host, hands it question and reads its answer.
func (b *bench) ask(ctx context.Context, on *host, role string, question, answer any) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stdin = strings.NewReader(string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out, faults strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := on.within(cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", role, err, strings.TrimSpace(faults.String()))
	}
	return json.Unmarshal([]byte(out.String()), answer)
}

// spent is the processor time, user and system, that process groups have used. The processes that ended do not count.
func spent(groups []int) ([]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	used := make([]time.Duration, len(groups))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it ended meanwhile
		}
		// proc_pid_stat(5): the command in parentheses may hold anything, the rest are fields from the third on.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pgrp, errGroup := strconv.Atoi(fields[2])
		user, errUser := strconv.ParseInt(fields[11], 10, 64)
		system, errSystem := strconv.ParseInt(fields[12], 10, 64)
		if err := errors.Join(errGroup, errUser, errSystem); err != nil {
			return nil, err
		}
		for i, g := range groups {
			if g == pgrp {
				used[i] += time.Duration(user+system) * 10 * time.Millisecond // ticks of 10 ms on Linux
			}
		}
	}
	return used, nil
}

// await tries until it works, a program ends, or half a minute has passed.
func await(ctx context.Context, what string, of []*program, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		for _, p := range of {
			select {
			case <-p.done:
				return fmt.Errorf("%s: %s ended: %s", what, p.name, p.tail())
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-tick.C:
		}
	}
}

// listening waits until something takes TCP connections at an address of the host.
func listening(ctx context.Context, on *host, address string, of ...*program) error {
	return await(ctx, address, of, func() error {
		return on.within(func() error {
			conn, err := net.DialTimeout("tcp", address, time.Second)
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	})
}
