package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

const (
	replacements = 20
	// restartEvery is the time from one replacement of the edge to the next; half of it later the connector is replaced. It is such
	// that old processes have ended before there are too many.
	restartEvery = 5 * time.Second
	fileBytes    = 2 << 20
)

// restarts replaces the edge and the connector again and again under load, as an upgrade does.
func (b *bench) restarts(ctx context.Context) error {
	here := &host{ip: "127.0.0.1"}
	at := place{near: here, far: here}
	origin, err := b.origin(ctx, &at)
	if err != nil {
		return err
	}
	defer origin.stop()
	columns := []string{"requests", "failed", "p50 ms", "p99 ms", "edge restarts", "of the connector"}
	t := &table{
		Name: "restarts", Columns: columns,
		Note: fmt.Sprintf("16 connections that nobody tries anything twice on, one person with files of %d MiB, while edge restart and connector restart run in turn", fileBytes>>20),
	}
	for _, w := range []struct{ name, transport string }{{"us", "auto"}, {"us-websocket", "websocket"}} {
		if !b.rows.has(w.name) {
			continue
		}
		m, err := b.replacing(ctx, at, w.transport)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		count, failed, each := float64(m.Count), float64(m.Failed), float64(replacements)
		p50, p99 := m.P50*ms, m.P99*ms
		t.Rows = append(t.Rows, row{Name: w.name, Figures: []*float64{&count, &failed, &p50, &p99, &each, &each}, Failed: m.Failed, Fault: m.Fault})
	}
	b.report.add(t)
	return nil
}

// replacing is what the load found while every process was replaced.
func (b *bench) replacing(ctx context.Context, at place, transport string) (m measured, err error) {
	s, p, err := b.sallyport(ctx, at, b.bin, transport)
	if err != nil {
		return m, err
	}
	defer p.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	span := restartEvery*replacements + 2*time.Second
	asked := make(chan error, 1)
	go func() {
		w := work{Connections: 16, Bytes: bodyBytes, Every: 20 * time.Millisecond, Files: 1, FileBytes: fileBytes, Warm: time.Second, For: span}
		asked <- b.ask(ctx, at.near, "load", p.work(w), &m)
	}()
	pause(2 * time.Second)
	next := time.Now()
	for n := range replacements {
		if _, err := s.edge(ctx, "restart"); err != nil {
			return m, err
		}
		pause(time.Until(next.Add(restartEvery / 2)))
		if _, err := command(ctx, s.far, filepath.Join(s.bin, "connector"), "restart", "--config", s.file("connector.yaml")); err != nil {
			return m, err
		}
		select {
		case err := <-asked:
			return m, errors.Join(fmt.Errorf("the load ended before replacement %d", n+1), err)
		default:
		}
		if next = next.Add(restartEvery); n < replacements-1 {
			pause(time.Until(next))
		}
	}
	return m, <-asked
}
