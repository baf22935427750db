package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// turn breaks one part.
type turn struct {
	part, what string
	// mayFail says that what is under way on the part may fail: it is killed. Anything else must lose nothing.
	mayFail bool
	do      func(ctx context.Context) error
	// back says that the part works again.
	back func(ctx context.Context) error
}

const (
	// settle is how long the load goes on after a part is back, so that what comes late is counted with its cause.
	settle = 3 * time.Second
	// unheard is the same for a process that was killed: its peers find that out within 10 s, and what was sent to it waits.
	unheard = 12 * time.Second
	// frozen is how long the database, or a connector, stands still.
	frozen = 10 * time.Second
)

// breakEach breaks each part in turn under the load, prints a line for each, and fails if something failed that must not.
func (r *rig) breakEach(ctx context.Context) error {
	l, err := r.newLoad()
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(loading, r.tokens)
	}()
	defer func() {
		stop()
		<-ended
	}()
	fmt.Printf("\n%d requests a second to %d clinics through %d edges; a client that cannot connect to an edge takes the next one.\n\n", len(clinics)*int(time.Second/l.every), len(clinics), edges)
	fmt.Printf("%-18s %-26s %9s %7s %15s %10s\n", "part", "what is done", "requests", "failed", "longest silence", "back after")
	wrong := 0
	for range r.rounds {
		for _, t := range r.turns() {
			if !strings.HasPrefix(t.part, r.only) {
				continue
			}
			bad, err := r.take(ctx, l, t)
			if err != nil {
				return err
			}
			wrong += bad
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d requests failed that must not", wrong)
	}
	fmt.Println("\nNothing failed but what was under way on a process that was killed.")
	return nil
}

// take does one turn and returns how many requests failed that must not.
func (r *rig) take(ctx context.Context, l *load, t turn) (bad int, err error) {
	pause(ctx, settle)
	before := l.take()
	began := time.Now()
	if err := t.do(ctx); err != nil {
		return 0, fmt.Errorf("%s, %s: %w", t.part, t.what, err)
	}
	if err := wait(ctx, t.back); err != nil {
		return 0, fmt.Errorf("%s, %s: not back: %w", t.part, t.what, err)
	}
	took := time.Since(began)
	if t.mayFail {
		pause(ctx, unheard)
	}
	pause(ctx, settle)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	now := l.take()
	fmt.Printf("%-18s %-26s %9d %7d %13.1f s %8.1f s\n", t.part, t.what, now.requests, now.failed, now.longest.Seconds(), took.Seconds())
	for _, fault := range slices.Sorted(maps.Keys(now.faults)) {
		fmt.Printf("%20d × %s\n", now.faults[fault], fault)
	}
	for _, fault := range slices.Sorted(maps.Keys(before.faults)) {
		fmt.Printf("%20d × %s, before it\n", before.faults[fault], fault)
	}
	bad = before.failed
	if !t.mayFail {
		bad += now.failed
	}
	return bad, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (r *rig) turns() []turn {
	var out []turn
	for n := 1; n <= edges; n++ {
		name := edgeName(n)
		back := func(ctx context.Context) error { return isReady(ctx, r.ready(n)) }
		out = append(out,
			turn{name, "stopped and started", false, r.replaced(name, syscall.SIGTERM), back},
			turn{name, "replaced (edge restart)", false, func(ctx context.Context) error {
				_, err := r.edge(ctx, n, "restart")
				return err
			}, back},
			turn{name, "killed", true, r.replaced(name, syscall.SIGKILL), back})
	}
	for i, clinic := range clinics {
		for n := 1; n <= connectors; n++ {
			name := connectorName(clinic, n)
			back := func(ctx context.Context) error { return isReady(ctx, r.connectorReady(i, n)) }
			out = append(out,
				turn{name, "stopped and started", false, r.replaced(name, syscall.SIGTERM), back},
				turn{name, "killed", true, r.replaced(name, syscall.SIGKILL), back},
				// As a machine without power: nothing ends, and nothing is answered.
				turn{name, fmt.Sprintf("frozen for %.0f s", frozen.Seconds()), true, r.frozen(name), back})
		}
	}
	all := func(ctx context.Context) error {
		for n := 1; n <= edges; n++ {
			if err := isReady(ctx, r.ready(n)); err != nil {
				return err
			}
		}
		return nil
	}
	return append(out,
		turn{database, "stopped at once", false, r.database(syscall.SIGQUIT), all},
		turn{database, "killed", false, r.database(syscall.SIGKILL), all},
		turn{database, fmt.Sprintf("frozen for %.0f s", frozen.Seconds()), false, func(ctx context.Context) error {
			if err := r.database(syscall.SIGSTOP)(ctx); err != nil {
				return err
			}
			pause(ctx, frozen)
			return r.database(syscall.SIGCONT)(ctx)
		}, all})
}

// replaced signals a process and returns when another one runs in its place.
func (r *rig) replaced(name string, signal syscall.Signal) func(context.Context) error {
	return func(ctx context.Context) error {
		p := r.named(name)
		before := p.pid()
		if err := syscall.Kill(before, signal); err != nil {
			return err
		}
		return wait(ctx, func(context.Context) error {
			if p.pid() == before {
				return errors.New("it has not been started again")
			}
			return nil
		})
	}
}

// frozen stops a process for a while.
func (r *rig) frozen(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		pid := r.named(name).pid()
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, frozen)
		return syscall.Kill(pid, syscall.SIGCONT)
	}
}

// database signals the server's processes: all of them, because each connection has its own.
func (r *rig) database(signal syscall.Signal) func(context.Context) error {
	return func(context.Context) error {
		text, err := os.ReadFile(filepath.Join(r.data, "data", "postmaster.pid"))
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		postmaster, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		if signal == syscall.SIGSTOP || signal == syscall.SIGCONT {
			for _, pid := range children(postmaster) {
				_ = syscall.Kill(pid, signal) // it may have ended
			}
		}
		return syscall.Kill(postmaster, signal)
	}
}

// children are the processes that a process has started (proc(5)).
func children(of int) []int {
	var out []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state ppid …; the name may hold anything.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if len(fields) > 1 && fields[1] == strconv.Itoa(of) {
			out = append(out, pid)
		}
	}
	return out
}
