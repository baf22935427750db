package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/pkg/log"
	process "github.com/sallyport-dev/sallyport/pkg/run"
)

// The programs that ship serve no profiles. For one, this binary runs as edge or connector itself: the same packages with
// the same configuration, under the runtime's profiler from start to end; memory and goroutines as they are when it is told to
// stop.
const (
	profileEnv = "SALLYPORT_BENCH_PROFILE"
	stateEnv   = "SALLYPORT_BENCH_STATE"
)

func profiled(program func(context.Context) error) error {
	if err := process.Slack(); err != nil { // before the profiler's timer, which would go on in the program begun anew
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file, err := os.Create(os.Getenv(profileEnv))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.Background())
	defer cancel()
	memory := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		memory <- profileMemory(os.Getenv(profileEnv))
		cancel()
	})
	err = program(running)
	pprof.StopCPUProfile()
	if ctx.Err() != nil {
		err = errors.Join(err, <-memory)
	}
	return errors.Join(err, file.Close())
}

// profileMemory writes what is held and which goroutines there are, beside the profile of the processor time.
func profileMemory(beside string) error {
	runtime.GC()
	for _, kind := range []string{"heap", "goroutine"} {
		file, err := os.Create(strings.TrimSuffix(beside, ".pprof") + "." + kind + ".pprof")
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.Lookup(kind).WriteTo(file, 0), file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func runEdge(ctx context.Context) error {
	logger, err := log.New(os.Stderr, "json", "info")
	if err != nil {
		return err
	}
	words := strings.Split(os.Getenv(stateEnv), ",")
	defer process.Heap(edge.LeastHeap)()
	c := edge.Default()
	c.StateDir, c.Host, c.Listen, c.Loopback = words[0], words[1], words[2], words[3]
	joining(words[4:], &c)
	e, err := edge.New(ctx, c, logger)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

func runConnector(ctx context.Context) error {
	logger, err := log.New(os.Stderr, "json", "info")
	if err != nil {
		return err
	}
	words := strings.Split(os.Getenv(stateEnv), ",")
	defer process.Heap(connector.LeastHeap)()
	c := connector.Default()
	c.StateDir, c.Ingress, c.Transport, c.Loopback, c.Logger = words[0], words[1], words[2], "127.0.0.1:0", logger
	connects, err := connector.New(*c)
	if err != nil {
		return err
	}
	return connects.Run(ctx)
}

// profileTo changes how a program is launched.
func (b *bench) profileTo(l launch, name, state string) launch {
	if b.profiles == "" {
		return l
	}
	l.args, l.asGuest = []string{b.self}, false
	l.env = append(l.env, roleEnv+"="+l.name, stateEnv+"="+state, profileEnv+"="+filepath.Join(b.profiles, name+"."+l.name+".pprof"))
	return l
}

var accounted = regexp.MustCompile(`accounting for (\S+?), (\S+)% of (\S+) total`)

// recordShare says which part of the edge's processor time the decision record takes, from a profile of the edge under the
// same load: samples with the recorder or the store's audit table on their stack. What it costs the garbage collector is not
// in it.
func (b *bench) recordShare(ctx context.Context) error {
	before := b.profiles
	defer func() { b.profiles = before }()
	if b.profiles == "" {
		b.profiles = b.dir
	}
	here := &host{ip: "127.0.0.1"}
	at := place{near: here, far: here}
	origin, err := b.origin(ctx, &at)
	if err != nil {
		return err
	}
	defer origin.stop()
	p, err := b.ours(ctx, at, b.bin, "auto")
	if err != nil {
		return err
	}
	var m measured
	w := p.work(work{Connections: connections, Bytes: bodyBytes, Warm: 2 * roundSpan, For: roundSpan})
	err = b.ask(ctx, here, "load", w, &m)
	p.stop()
	if err != nil {
		return err
	}
	share, err := b.recorded(ctx, "auto")
	if err != nil {
		return err
	}
	ofBoth := share * m.CPU[0] / total(m.CPU)
	perRequest := share / 100 * m.CPU[0] / float64(m.Count) * 1e6
	b.report.add(&table{
		Name: "record", Columns: []string{"% of the edge", "% of both", "µs/request"},
		Note: "the decision record's share of the processor time, by a profile of the edge under the same load, garbage collection not counted",
		Rows: []row{{Name: "record", Figures: []*float64{&share, &ofBoth, &perRequest}}},
	})
	return nil
}

// recorded is the share of the decision record in the profile of an edge that has ended, in per cent.
func (b *bench) recorded(ctx context.Context, name string) (float64, error) {
	text, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-focus", `pkg/audit\.|pkg/store\.records`,
		filepath.Join(b.profiles, name+".edge.pprof")).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pprof: %w: %s", err, text)
	}
	found := accounted.FindStringSubmatch(string(text))
	if found == nil {
		return 0, fmt.Errorf("pprof said nothing of a share: %.500s", text)
	}
	return strconv.ParseFloat(found[2], 64)
}
