// Command bench measures Sallyport beside its peers: what a request and a gigabyte cost, what idle connectors cost, and what
// people feel on a line with delay and loss. Every figure is to be read as a ratio within one run: ways alternate, and a
// calibration row says what the machine could do meanwhile. `make bench` runs all of it; -only and -rows run a part.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the benchmark.
type bench struct {
	options
	self, dir, bin string
	programs, port int // started, and tried, so far
	report         report
}

// options are the flags.
type options struct {
	only, rows, kernels list
	rounds, lossyRounds int
	connectors          int
	span                time.Duration
	json                string
	builds              list
	profiles            string
	keep                bool
}

// list is a flag of names with commas between them.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = strings.Split(text, ",")
	return nil
}

// has reports whether a name was chosen; without a choice every one is.
func (l list) has(name string) bool { return len(l) == 0 || slices.Contains(l, name) }

// section is a part of the benchmark that can be run alone.
type section struct {
	name, what string
	run        func(*bench, context.Context) error
}

func sections() []section {
	return []section{
		{"hot", "the hot paths", (*bench).hotPaths},
		{"links", "links alone", (*bench).links},
		{"path", "what a request and a gigabyte cost on loopback", (*bench).loopback},
		{"record", "the record's share of that", (*bench).recordShare},
		{"users", "a soak", (*bench).users},
		{"hop", "what forwarding to another edge adds", (*bench).hop},
		{"size", "connectors and sessions on three edges, and what each costs", (*bench).size},
		{"cluster", "what a request pays for the cluster on the edge that has the link", (*bench).cluster},
		{"idle", "a thousand idle connectors", (*bench).idle},
		{"restarts", "requests that fail while edge and connector are replaced", (*bench).restarts},
		{"lossy100", "bulk and small requests on a fast line with loss", (*bench).fastLine},
		{"lossy20", "ten users' pages on a clinic's line", (*bench).clinicLine},
		{"distance", "what is added to a request far away", (*bench).distance},
	}
}

func main() {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		err = start()
	case "guest":
		err = becomeGuest()
	case "edge":
		err = profiled(runEdge)
	case "connector":
		err = profiled(runConnector)
	case "fleet":
		err = runFleet()
	case "origin":
		err = serveOrigin()
	case "load":
		err = generateLoad()
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start() error {
	var o options
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	flag.Var(&o.only, "only", "sections to run, of "+strings.Join(names, ","))
	flag.Var(&o.rows, "rows", "rows to run, of straight,nginx,us,us-quic,us-websocket and peers found on PATH: frp-tcp,frp-quic,frp-websocket,chisel,piko")
	flag.Var(&o.kernels, "kernels", "congestion controls of the lossy lines, of cubic,bbr")
	flag.Var(&o.builds, "builds", "directories with other builds of edge and connector, measured beside as us:DIRECTORY")
	flag.IntVar(&o.rounds, "rounds", 3, "alternating rounds on loopback")
	flag.IntVar(&o.lossyRounds, "lossy-rounds", 1, "alternating rounds on lossy lines")
	flag.IntVar(&o.connectors, "connectors", 1000, "idle connectors of one edge")
	flag.DurationVar(&o.span, "for", 20*time.Second, "how long each figure of a lossy line is measured")
	flag.StringVar(&o.json, "json", "bench.json", "file for the figures")
	flag.StringVar(&o.profiles, "profiles", "", "directory for CPU profiles of our programs; figures taken with them are not comparable")
	flag.BoolVar(&o.keep, "keep", false, "keep logs and state")
	flag.Parse()
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only %s: no such section; there are %s", name, strings.Join(names, ", "))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, o)
}

func run(ctx context.Context, o options) error {
	b := &bench{options: o}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "sallyport-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil { // the programs may run as somebody else
		return err
	}
	if o.keep {
		fmt.Println("logs and state are in", b.dir)
	} else {
		defer os.RemoveAll(b.dir)
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o700); err != nil {
			return err
		}
	}
	b.bin = filepath.Join(b.dir, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.bin+string(filepath.Separator), "./cmd/edge", "./cmd/connector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building (run this in the repository's root): %w\n%s", err, text)
	}
	// A copy of this binary that anybody may run.
	if text, err := exec.CommandContext(ctx, "install", "-m", "0755", b.self, filepath.Join(b.bin, "bench")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	b.self = filepath.Join(b.bin, "bench")
	b.report.describe()
	for _, s := range sections() {
		if !o.only.has(s.name) {
			continue
		}
		fmt.Printf("\n== %s: %s\n", s.name, s.what)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.report.write(o.json)
}

// leaveOut says on the terminal and in the file what was not measured, and why.
func (b *bench) leaveOut(what, why string) {
	if text := what + ": " + why; !slices.Contains(b.report.LeftOut, text) {
		fmt.Println("left out:", text)
		b.report.LeftOut = append(b.report.LeftOut, text)
	}
}
