package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Standby makes a server that follows this one by streaming replication, and has it removed when the test ends. With synchronous set
// the primary acknowledges no commit before the standby has it on its disk.
func (s *Server) Standby(t testing.TB, synchronous bool) *Server {
	t.Helper()
	other, err := s.copy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.remove(t) })
	if !synchronous {
		return other
	}
	// After the copy was made: it must not wait for a standby of its own once it is promoted.
	s.alter(t, `ALTER SYSTEM SET synchronous_standby_names = '*'`)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(s.Query(t, s.URL("postgres", "postgres"), `SELECT sync_state FROM pg_stat_replication WHERE sync_state = 'sync'`)) == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("pgtest: the standby does not follow")
		}
	}
	return other
}

func (s *Server) copy() (*Server, error) {
	dir, err := os.MkdirTemp("/tmp", "pgtest")
	if err != nil {
		return nil, err
	}
	attr, uid, gid, err := owner()
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	backup := exec.CommandContext(ctx, filepath.Join(s.bin, "pg_basebackup"), "-D", filepath.Join(dir, "data"), "-h", s.sockets(), "-p", port,
		"-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync")
	backup.SysProcAttr, backup.Dir = attr, dir
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pg_basebackup: %w\n%s", err, out), os.RemoveAll(dir))
	}
	other := &Server{dir: dir, bin: s.bin}
	return other, other.run()
}

// alter changes a setting of the server that it takes while it runs.
func (s *Server) alter(t testing.TB, text string) {
	t.Helper()
	Exec(t, s.URL("postgres", "postgres"), text)
	Exec(t, s.URL("postgres", "postgres"), `SELECT pg_reload_conf()`)
}

// Promote makes a standby take writes; it does when Promote returns.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	Exec(t, s.URL("postgres", "postgres"), `SELECT pg_promote(true, 50)`)
}

// Alone has a primary wait for no standby any more.
func (s *Server) Alone(t testing.TB) {
	t.Helper()
	s.alter(t, `ALTER SYSTEM SET synchronous_standby_names = ''`)
}

// Several is the URL of a database with these servers as places where the primary may be.
func Several(database string, servers ...*Server) string {
	var hosts, ports []string
	for _, s := range servers {
		hosts, ports = append(hosts, s.sockets()), append(ports, port)
	}
	before, rest, _ := strings.Cut(database, "host=")
	_, after, _ := strings.Cut(rest, "&user=")
	return before + "host=" + strings.Join(hosts, ",") + "&port=" + strings.Join(ports, ",") + "&user=" + after
}
