package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// hotPaths runs the packages' own benchmarks.
func (b *bench) hotPaths(ctx context.Context) error {
	return b.goTest(ctx, "hot", "what a request passes, each alone", []string{"ns/op", "B/op", "allocs/op"},
		"-bench", ".", "-benchtime", "200ms", "-benchmem", "./pkg/urlpath", "./pkg/wire", "./pkg/exchange", "./pkg/token", "./pkg/access",
		"./pkg/audit", "./pkg/route", "./pkg/registry", "./pkg/proxy", "./pkg/ingress", "./pkg/store")
}

// links runs the links' benchmarks beside bare TLS.
func (b *bench) links(ctx context.Context) error {
	if err := b.goTest(ctx, "streams", "a stream opened, 1 KiB each way, ended", []string{"ns/op", "B/op", "allocs/op"},
		"-bench", "./open", "-benchtime", "5000x", "-benchmem", "./pkg/tunnel/quiclink", "./pkg/tunnel/wslink"); err != nil {
		return err
	}
	return b.goTest(ctx, "links", "1 GiB over one stream, beside bare TLS", []string{"MB/s"},
		"-bench", "./(edge|connector|calibration)", "-benchtime", "1x", "./pkg/tunnel/quiclink", "./pkg/tunnel/wslink")
}

// users is 200 people at work for a minute.
func (b *bench) users(ctx context.Context) error {
	return b.goTest(ctx, "users", "200 people signed in by a mailed code, at work for a minute; every body checked by digest, no request may fail",
		[]string{"requests", "failed", "requests/s", "CPU-µs/request", "edge-heap-MiB", "connector-heap-MiB"}, "-bench", "Users", "-benchtime", "1x", "./pkg/edgetest")
}

// hop is what a request costs more at an edge that has to send it on to another.
func (b *bench) hop(ctx context.Context) error {
	if err := b.goTest(ctx, "hop", "people at work at the edge with the connector's links and at another one, in turns; CPU of both edges and the connector, everything on",
		[]string{"direct-CPU-µs/request", "forwarded-CPU-µs/request", "CPU-ratio", "direct-p50-ms", "forwarded-p50-ms", "failed"},
		"-bench", "Hop", "-benchtime", "1x", "./pkg/edgetest"); err != nil {
		return err
	}
	return b.goTest(ctx, "hop alone", "an exchange of 4 KiB between edge and connector, and with another edge in between; nothing else",
		[]string{"cpu-µs/op", "p50-µs", "p99-µs"}, "-bench", "Hop", "-benchtime", "5000x", "./pkg/cluster")
}

// size is how much connectors and people cost a cluster.
func (b *bench) size(ctx context.Context) error {
	return b.goTest(ctx, "size", "three edges on one PostgreSQL, 500 clinics, 2,000 connectors with four links each, 20,000 sessions that come once, an eighth "+
		"again, and an eighth for 5 requests, each over a connection of its own; memory and CPU of the edges, and of the connectors' side (there); an edge killed and "+
		"started again. pkg/cluster/DESIGN.md says what follows. SALLYPORT_BENCH_CONNECTORS=200 is a tenth of that",
		[]string{
			"all-linked-s", "opened/link", "CPU-µs/link-opened", "CPU-µs/link-opened-there", "KiB/link", "CPU-µs/link/s", "CPU-µs/link/s-there", "files/edge", "KiB/session", "CPU-µs/first-visit", "CPU-µs/visit", "CPU-µs/request",
			"MiB/edge", "failed", "DB-CPU-µs/s", "DB-transactions/s", "WAL-B/s", "DB-transactions/first-visit", "DB-CPU-µs/request", "DB-transactions/request",
			"WAL-B/request", "DB-B/request", "elsewhere-s", "CPU-µs/link-moved", "refilled-s", "refilled-%",
		}, "-bench", "Size", "-benchtime", "1x", "-timeout", "20m", "./pkg/edgetest")
}

// goTest runs benchmarks and makes a table of what they report.
func (b *bench) goTest(ctx context.Context, name, note string, columns []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-timeout", "10m"}, args...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	t := &table{Name: name, Note: note, Columns: columns}
	in := ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "pkg:" {
			_, in, _ = strings.Cut(words[1], "/pkg/")
		}
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		r := row{Name: in + " " + strings.TrimPrefix(words[0], "Benchmark"), Figures: make([]*float64, len(columns))}
		for i := 2; i+1 < len(words); i += 2 { // a value, then its unit
			v, err := strconv.ParseFloat(words[i], 64)
			if err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
			for c, unit := range columns {
				if unit == words[i+1] {
					r.Figures[c] = &v
				}
			}
		}
		t.Rows = append(t.Rows, r)
	}
	if len(t.Rows) == 0 {
		return fmt.Errorf("%s: no benchmark ran\n%s", name, text)
	}
	b.report.add(t)
	return nil
}
