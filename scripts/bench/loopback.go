package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"
)

const (
	connections = 64
	bodyBytes   = 1024
	roundSpan   = 4 * time.Second
	downBytes   = 400 << 20
	upBytes     = 200 << 20
)

// standing is a way that is up on loopback.
type standing struct {
	path *path
	samples
}

// loopback measures every way on this machine, all of them up at the same time and measured in turns.
func (b *bench) loopback(ctx context.Context) error {
	here := &host{ip: "127.0.0.1"}
	at := place{near: here, far: here}
	origin, err := b.origin(ctx, &at)
	if err != nil {
		return err
	}
	defer origin.stop()
	var all []*standing
	defer func() {
		for _, s := range all {
			s.path.stop()
		}
	}()
	ways := slices.Concat([]way{straight("origin")}, b.onPath([]way{nginx()}, "nginx"), b.ourWays(), b.peers())
	for _, w := range b.chosen(ways) {
		p, err := w.start(b, ctx, at)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		all = append(all, &standing{path: p, samples: samples{name: w.name}})
	}
	var bare samples
	bare.name = "calibration: net/http over TLS"
	for range b.rounds {
		rate, err := calibrate()
		if err != nil {
			return err
		}
		bare.add(6, rate)
		for _, s := range all {
			if err := b.turn(ctx, here, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	columns := []string{"requests/s", "p50 ms", "p99 ms", "CPU µs/request", "of it edge", "connector", "down MB/s", "CPU s/GB", "up MB/s", "CPU s/GB"}
	t := &table{
		Name: "path", Columns: columns,
		Note: fmt.Sprintf("%d connections kept alive, %d bytes a response; one body of %d MiB down, %d MiB up; CPU is user and system of all processes of the tunnel; median of %d alternating rounds",
			connections, bodyBytes, downBytes>>20, upBytes>>20, b.rounds),
		Rows: []row{bare.median(len(columns))},
	}
	for _, s := range all {
		t.Rows = append(t.Rows, s.median(len(columns)))
	}
	b.report.add(t)
	return nil
}

// turn is one round of one way.
func (b *bench) turn(ctx context.Context, on *host, s *standing) error {
	var m measured
	w := work{Connections: connections, Bytes: bodyBytes, Warm: time.Second, For: roundSpan}
	if err := b.ask(ctx, on, "load", s.path.work(w), &m); err != nil {
		return err
	}
	s.fail(m)
	if m.Count == 0 {
		return fmt.Errorf("no request came back: %s", m.Fault)
	}
	s.add(0, float64(m.Count)/m.Seconds)
	s.add(1, m.P50*ms)
	s.add(2, m.P99*ms)
	if n := float64(m.Count); len(m.CPU) > 0 {
		s.add(3, total(m.CPU)/n*1e6)
		if len(m.CPU) == 2 {
			s.add(4, m.CPU[0]/n*1e6)
			s.add(5, m.CPU[1]/n*1e6)
		}
	}
	for i, w := range []work{{Down: downBytes}, {Up: upBytes}} {
		var m measured
		if err := b.ask(ctx, on, "load", s.path.work(w), &m); err != nil {
			return err
		}
		s.add(6+2*i, float64(m.Bytes)/1e6/m.Seconds)
		if len(m.CPU) > 0 {
			s.add(7+2*i, total(m.CPU)/float64(m.Bytes)*1e9)
		}
	}
	return nil
}

func total(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

// calibrate fetches a body from a bare net/http server over TLS on loopback: what this machine can do now, in MB/s.
func calibrate() (float64, error) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, downBytes)
	}))
	defer server.Close()
	began := time.Now()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != downBytes {
		err = fmt.Errorf("calibration: %d bytes", n)
	}
	return float64(n) / 1e6 / time.Since(began).Seconds(), err
}
