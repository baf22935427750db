package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// way is a row: how a path is set up.
type way struct {
	name  string
	start func(*bench, context.Context, place) (*path, error)
}

// straight is no tunnel: the browsers reach the origin itself, as over a forwarded port.
func straight(name string) way {
	return way{name, func(_ *bench, _ context.Context, at place) (*path, error) {
		return &path{base: "http://" + at.originAddr, dial: at.originAddr}, nil
	}}
}

// ourWays are Sallyport by its connector's transport, and as other builds have it.
func (b *bench) ourWays() []way {
	ways := make([]way, 0, 3+len(b.builds))
	for _, w := range []struct{ name, bin, transport string }{
		{"us", b.bin, "auto"}, {"us-quic", b.bin, "quic"}, {"us-websocket", b.bin, "websocket"},
	} {
		ways = append(ways, way{w.name, func(b *bench, ctx context.Context, at place) (*path, error) {
			return b.ours(ctx, at, w.bin, w.transport)
		}})
	}
	for _, bin := range b.builds {
		ways = append(ways, way{"us:" + bin, func(b *bench, ctx context.Context, at place) (*path, error) {
			return b.ours(ctx, at, bin, "auto")
		}})
	}
	return ways
}

// chosen leaves out the rows that -rows does not name; other builds are always in.
func (b *bench) chosen(ways []way) []way {
	var in []way
	for _, w := range ways {
		if b.rows.has(w.name) || strings.HasPrefix(w.name, "us:") {
			in = append(in, w)
		}
	}
	return in
}

// The lines of the lossy tables.
var (
	fastLine   = line{Delay: 20 * time.Millisecond, Rate: 100, Loss: 0.01, Queue: 100 * time.Millisecond}
	clinicLine = line{Delay: 20 * time.Millisecond, Rate: 20, Loss: 0.005, Queue: 100 * time.Millisecond}
	farLine    = line{Delay: 20 * time.Millisecond, Queue: 100 * time.Millisecond}
)

const (
	lossyWarm = 3 * time.Second
	// pagesLonger is how many times as long pages are measured as the rest: of the hundred of 20 s one alone would be the p99.
	pagesLonger = 3
)

// phase is one measurement over a path; it fills its columns.
type phase struct {
	what work
	into func(measured) []float64
}

// overLine measures every way over a line, and prints a table for each kernel.
func (b *bench) overLine(ctx context.Context, name, note string, l line, kernels, columns []string, phases []phase) error {
	for _, kernel := range kernels {
		if !b.kernels.has(kernel) {
			continue
		}
		table := &table{Name: name + "/" + kernel, Note: fmt.Sprintf("%s; %s; default congestion control: %s; median of %d", l, note, kernel, b.lossyRounds), Columns: columns}
		ways := b.chosen(append([]way{straight("straight")}, append(b.ourWays(), b.peers()...)...))
		rows, err := b.alternate(ctx, l, kernel, ways, phases)
		var unfit *unfitError
		switch {
		case errors.Is(err, errNoLink):
			b.leaveOut(name, err.Error())
			return nil
		case errors.As(err, &unfit):
			b.leaveOut(name+" with "+kernel+" kernels", err.Error())
			continue
		case err != nil:
			return err
		}
		for _, r := range rows {
			table.Rows = append(table.Rows, r.median(len(columns)))
		}
		b.report.add(table)
	}
	return nil
}

// alternate measures every way over the line, round by round.
func (b *bench) alternate(ctx context.Context, l line, kernel string, ways []way, phases []phase) ([]samples, error) {
	restore, err := congestion(kernel)
	if err != nil {
		return nil, err
	}
	defer restore()
	rows := make([]samples, len(ways))
	for range b.lossyRounds {
		for i, w := range ways {
			rows[i].name = w.name
			if err := b.overLink(ctx, l, kernel, w, phases, &rows[i]); err != nil {
				return nil, fmt.Errorf("%s with %s: %w", w.name, kernel, err)
			}
		}
	}
	return rows, nil
}

// unfitError says that this kernel lacks a congestion control.
type unfitError struct{ has string }

func (e *unfitError) Error() string { return "this kernel has " + e.has }

const allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"

// congestion makes the kernel's default the only control that an unprivileged process may ask for, so that a table says what
// it claims; what it returns puts the machine's own setting back.
func congestion(kernel string) (restore func(), err error) {
	available, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil || os.Geteuid() != 0 {
		return nil, errNoLink
	}
	if !strings.Contains(string(available), kernel) {
		return nil, &unfitError{strings.TrimSpace(string(available))}
	}
	before, err := os.ReadFile(allowed)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(allowed, []byte("reno "+kernel), 0o644); err != nil {
		return nil, err
	}
	return func() { _ = os.WriteFile(allowed, before, 0o644) }, nil
}

// overLink sets a link and one way over it up, measures, and takes all of it away.
func (b *bench) overLink(ctx context.Context, l line, kernel string, w way, phases []phase, row *samples) error {
	k, err := newLink(l, kernel)
	if err != nil {
		return err
	}
	defer k.close()
	at := place{near: k.near, far: k.far}
	origin, err := b.origin(ctx, &at)
	if err != nil {
		return err
	}
	defer origin.stop()
	p, err := w.start(b, ctx, at)
	if err != nil {
		return err
	}
	defer p.stop()
	column := 0
	for _, phase := range phases {
		var m measured
		if err := b.ask(ctx, k.near, "load", p.work(phase.what), &m); err != nil {
			return err
		}
		row.fail(m)
		for _, v := range phase.into(m) {
			row.add(column, v)
			column++
		}
	}
	return nil
}

// origin starts the server behind everything on the far host.
func (b *bench) origin(ctx context.Context, at *place) (*program, error) {
	var err error
	if at.originAddr, err = b.address(at.far); err != nil {
		return nil, err
	}
	p, err := b.start(launch{name: "origin", on: at.far, args: []string{b.self}, env: []string{roleEnv + "=origin", "SALLYPORT_BENCH_LISTEN=" + at.originAddr}})
	if err != nil {
		return nil, err
	}
	if err := listening(ctx, at.far, at.originAddr, p); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

const ms = 1e3 // milliseconds in a second

func mbits(m measured) float64          { return float64(m.Bytes) * 8 / 1e6 / m.Seconds }
func times(m measured) []float64        { return []float64{m.P50 * ms, m.P99 * ms} }
func rate(m measured) []float64         { return []float64{mbits(m)} }
func timesAndRate(m measured) []float64 { return append(times(m), mbits(m)) }

// fastLine is bulk on a fast line, and small requests beside it.
func (b *bench) fastLine(ctx context.Context) error {
	small := work{Connections: 4, Bytes: 1024, Every: 50 * time.Millisecond, Warm: lossyWarm, For: b.span}
	beside := small
	beside.Downloads = 2
	return b.overLine(ctx, "lossy100", "small requests of 1 KiB, alone and beside two downloads", fastLine, []string{"cubic", "bbr"},
		[]string{"bulk alone Mbit/s", "small alone p50 ms", "p99 ms", "beside two: p50 ms", "p99 ms", "bulk Mbit/s"},
		[]phase{{work{Downloads: 1, Warm: lossyWarm, For: b.span}, rate}, {small, times}, {beside, timesAndRate}})
}

// clinicLine is ten users' pages, and a download beside them.
func (b *bench) clinicLine(ctx context.Context) error {
	pages := work{Users: 10, Every: 2 * time.Second, Warm: lossyWarm, For: pagesLonger * b.span}
	beside := pages
	beside.Downloads = 1
	return b.overLine(ctx, "lossy20", "ten users, a page of 13 objects (210 KB, six connections) every 2 s, alone and beside an endless download", clinicLine,
		[]string{"cubic", "bbr"},
		[]string{"pages alone p50 ms", "p99 ms", "bulk alone Mbit/s", "beside it: p50 ms", "p99 ms", "bulk Mbit/s"},
		[]phase{{pages, times}, {work{Downloads: 1, Warm: lossyWarm, For: b.span}, rate}, {beside, timesAndRate}})
}

// distance is what a request takes longer than straight to the origin when nothing is lost.
func (b *bench) distance(ctx context.Context) error {
	small := work{Connections: 4, Bytes: 1024, Every: 50 * time.Millisecond, Warm: lossyWarm, For: b.span / 2}
	return b.overLine(ctx, "distance", "small requests of 1 KiB", farLine, []string{"cubic"}, []string{"p50 ms", "p99 ms"}, []phase{{small, times}})
}
