package edgetest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-dev/sallyport/pkg/session"
)

// usage is what edges and database have used since they began, or within some time.
type usage struct {
	edges, database float64 // processor time, µs
	connectors      float64 // the same, of all of them, and of whatever else the benchmark's own process does
	commits         float64 // transactions of the database; a query alone is one
	wal, size       float64 // bytes that the database logged, and keeps
}

func (u usage) since(before usage) usage {
	return usage{u.edges - before.edges, u.database - before.database, u.connectors - before.connectors, u.commits - before.commits, u.wal - before.wal, u.size - before.size}
}

func (u usage) times(n float64) usage {
	return usage{u.edges * n, u.database * n, u.connectors * n, u.commits * n, u.wal * n, u.size * n}
}

func (s *size) usage() (u usage) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.database)
	if err != nil {
		s.b.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var backend int
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid(), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, pg_database_size(current_database())::float8,
		(SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database())::float8`).Scan(&backend, &u.wal, &u.size, &u.commits)
	if err != nil {
		s.b.Fatal(err)
	}
	u.database = s.server(backend)
	var pids []int
	for _, w := range s.edges {
		pids = append(pids, w.Edge.PID())
	}
	u.edges, u.connectors = float64(cpu(s.b, pids...).Microseconds()), float64(cpu(s.b, os.Getpid()).Microseconds())
	return u
}

// tickMicros is the unit of processor time in /proc, µs.
const tickMicros = 10_000

// server is the processor time of all processes of the database, those that have ended too, one of which is backend; µs.
func (s *size) server(backend int) (total float64) {
	parent := s.stat(backend)[1]
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.b.Fatal(err)
	}
	for _, path := range all {
		pid := filepath.Base(filepath.Dir(path))
		n, _ := strconv.Atoi(pid)
		fields := s.stat(n)
		if fields == nil {
			continue // it has ended
		}
		want := fields[11:13] // utime, stime
		if pid == parent {
			want = fields[11:15] // and those of its children that have ended
		} else if fields[1] != parent {
			continue
		}
		for _, f := range want {
			ticks, _ := strconv.ParseFloat(f, 64)
			total += ticks * tickMicros
		}
	}
	return total
}

// stat is what /proc says of a process from its state on: the parent comes second. Of one that has ended it is nil.
func (s *size) stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

// resident is the memory of the edges together, bytes.
func (s *size) resident() (total float64) {
	for _, w := range s.edges {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.Edge.PID()))
		if err != nil {
			s.b.Fatal(err)
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
		if err != nil {
			s.b.Fatal(err)
		}
		total += pages * float64(os.Getpagesize())
	}
	return total
}

// files is how many an edge has open.
func (s *size) files() (each float64) {
	for _, w := range s.edges {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.Edge.PID()))
		if err != nil {
			s.b.Fatal(err)
		}
		each += float64(len(open)) / float64(len(s.edges))
	}
	return each
}

// idle waits, and returns what is used a second meanwhile.
func (s *size) idle() usage {
	before := s.usage()
	<-time.After(sizeIdle)
	return s.usage().since(before).times(1 / sizeIdle.Seconds())
}

// visits has sessions come once over a connection of their own each, at one edge after the other, and ask some times. What idle links
// use meanwhile does not count.
func (s *size) visits(sessions, times int) (used usage, failed int64) {
	dialers := make(chan net.IP, sizeWorkers)
	for i := range sizeWorkers {
		dialers <- net.IPv4(127, 2, 0, byte(i+1))
	}
	var wrong atomic.Int64
	before, began := s.usage(), time.Now()
	s.inParallel(sizeWorkers, sessions, func(n int) error {
		own := <-dialers
		defer func() { dialers <- own }()
		// Whose certificate it is does not matter, and looking takes time of the machine that the edges share.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: from(own)}
		defer transport.CloseIdleConnections()
		c := &http.Client{Timeout: 30 * time.Second, Transport: transport}
		for range times {
			if err := s.ask(c, n); err != nil && wrong.Add(1) < 5 {
				s.b.Logf("session %d: %v", n, err)
			}
		}
		return nil
	})
	return s.usage().since(before).since(s.rest.times(time.Since(began).Seconds())), wrong.Load()
}

func (s *size) ask(c *http.Client, n int) error {
	w := s.edges[n%len(s.edges)]
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s:%d/oscar/echo", clinicHost(n%s.clinics), w.Port), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "none")
	r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: s.cookies[n]})
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
