package main

import (
	"context"
	"encoding/json"
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
	// do breaks it and returns when it is no more, or stands still; mend, if set, ends that after a while.
	do, mend func(ctx context.Context) error
	// back says that the part works again.
	back func(ctx context.Context) error
	// front is what the load knows a part by that is an edge.
	front *front
	// mayFail says that what is under way when the part goes may fail, and what begins within so long after it.
	mayFail bool
	noticed time.Duration
	// limit, if not 0, is how long the part may take to be back.
	limit time.Duration
}

const (
	// away is how long an edge stays away that does not come back at once: nobody tells its peers then that it is dead.
	away = 8 * time.Second
	// lineNotices bounds how long an edge sends to a connector that was killed: its kernel ends the TCP links as it dies.
	lineNotices = 250 * time.Millisecond
	// frozenNotices is the same for one that stands still: an exchange waits for half a second, then a probe does.
	frozenNotices = 2 * time.Second
	// databaseBack is how long edges may take to use a database again that is back.
	databaseBack = 10 * time.Second
)

func (r *rig) turns(l *load) (out []turn) {
	for n := 1; n <= edges; n++ {
		out = append(out, r.edgeTurns(n, l.fronts[n-1])...)
	}
	for i, clinic := range clinics {
		for n := 1; n <= connectors; n++ {
			name := connectorName(clinic, n)
			back := func(ctx context.Context) error { return isReady(ctx, r.connectorReady(i, n)) }
			freeze, thaw := r.frozen(name)
			out = append(out,
				turn{part: name, what: "stopped and started", do: r.replaced(name, syscall.SIGTERM, restartAfter), back: back},
				turn{part: name, what: "killed", do: r.gone(name, restartAfter), back: back, mayFail: true, noticed: lineNotices},
				// As a machine without power: nothing ends, and nothing is answered.
				turn{part: name, what: fmt.Sprintf("frozen for %s", r.options.frozen), do: freeze, mend: thaw, back: back, mayFail: true, noticed: frozenNotices})
		}
	}
	stop, kill := r.database(syscall.SIGQUIT), r.database(syscall.SIGKILL)
	return append(out,
		// Its own recovery, which the disk sets the pace of, is not counted.
		turn{part: database, what: "stopped at once", do: stop, mend: r.databaseStarts, back: r.databaseIsUsed, limit: databaseBack},
		turn{part: database, what: "killed", do: kill, mend: r.databaseStarts, back: r.databaseIsUsed, limit: databaseBack},
		turn{
			part: database, what: fmt.Sprintf("frozen for %s", r.options.frozen), do: r.database(syscall.SIGSTOP),
			mend: func(ctx context.Context) error {
				pause(ctx, r.options.frozen)
				return r.database(syscall.SIGCONT)(ctx)
			},
			back: r.databaseIsUsed, limit: databaseBack,
		})
}

func (r *rig) edgeTurns(n int, at *front) []turn {
	name := edgeName(n)
	back := func(ctx context.Context) error { return isReady(ctx, r.ready(n)) }
	restart := func(ctx context.Context) error {
		_, err := r.edge(ctx, n, "restart")
		return err
	}
	return []turn{
		{part: name, what: "stopped and started", do: r.replaced(name, syscall.SIGTERM, restartAfter), back: back, front: at},
		{part: name, what: "replaced (edge restart)", do: restart, back: back, front: at},
		{part: name, what: "killed", do: r.gone(name, restartAfter), back: back, front: at, mayFail: true},
		{part: name, what: fmt.Sprintf("killed, away for %s", away), do: r.gone(name, away), back: back, front: at, mayFail: true},
	}
}

// databaseStarts waits until the database takes connections.
func (r *rig) databaseStarts(ctx context.Context) error {
	return wait(ctx, func(ctx context.Context) error { return r.psql(ctx, "-c", "SELECT 1") })
}

// databaseIsUsed says that every edge takes a change, and that none keeps records on its own disk that belong in the database.
func (r *rig) databaseIsUsed(ctx context.Context) error {
	for n := 1; n <= edges; n++ {
		if _, err := r.edge(ctx, n, "token", "mint", "load", "--tenant", clinics[0]); err != nil {
			return err
		}
	}
	return r.merged(ctx)
}

// isWhole says that every connector has a link of both lanes to two edges: what one part may take with it, another one has.
func (r *rig) isWhole(ctx context.Context) error {
	for i, clinic := range clinics {
		for n := 1; n <= connectors; n++ {
			var status struct {
				Links []struct {
					Edge, Lane string
					Up         bool
				}
			}
			text, err := fetch(ctx, r.connectorReady(i, n), "ready")
			if err == nil {
				err = json.Unmarshal(text, &status)
			}
			if err != nil {
				return err
			}
			lanes := map[string]bool{}
			for _, link := range status.Links {
				if link.Up {
					lanes[link.Edge+" "+link.Lane] = true
				}
			}
			if len(lanes) < 4 {
				return fmt.Errorf("%s has links %v", connectorName(clinic, n), slices.Sorted(maps.Keys(lanes)))
			}
		}
	}
	return nil
}

// gone kills a process and returns when it is no more; another one takes its place after rest.
func (r *rig) gone(name string, rest time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		p := r.named(name)
		p.stayAway(rest)
		pid := p.pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		return ended(ctx, pid)
	}
}

// ended returns when a process is no more.
func ended(ctx context.Context, pid int) error {
	for ctx.Err() == nil && syscall.Kill(pid, 0) == nil {
		pause(ctx, time.Millisecond)
	}
	return ctx.Err()
}

// replaced signals a process and returns when another one runs in its place.
func (r *rig) replaced(name string, signal syscall.Signal, rest time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		p := r.named(name)
		p.stayAway(rest)
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

// frozen stops a process, and lets it go on after a while.
func (r *rig) frozen(name string) (freeze, thaw func(context.Context) error) {
	freeze = func(context.Context) error { return syscall.Kill(r.named(name).pid(), syscall.SIGSTOP) }
	thaw = func(ctx context.Context) error {
		pause(ctx, r.options.frozen)
		return syscall.Kill(r.named(name).pid(), syscall.SIGCONT)
	}
	return freeze, thaw
}

// database signals the server's processes: all of them, because each connection has its own. If that ends it, it has ended on return.
func (r *rig) database(signal syscall.Signal) func(context.Context) error {
	return func(ctx context.Context) error {
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
		if signal == syscall.SIGCONT {
			// runuser has stopped itself beside it, and would not see it end.
			defer func() { _ = syscall.Kill(r.named(database).pid(), signal) }()
		}
		if err := syscall.Kill(postmaster, signal); err != nil || signal == syscall.SIGSTOP || signal == syscall.SIGCONT {
			return err
		}
		defer r.reap() // its processes outlive it for a moment
		return ended(ctx, postmaster)
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
