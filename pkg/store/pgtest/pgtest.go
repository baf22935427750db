// Package pgtest owns a PostgreSQL for tests: its own, from Debian's packages, in a directory of its own and reached over a
// Unix socket there, with fsync on. It never uses one that happens to run. It knows nothing of what is kept in it.
//
// Database is what most tests want: an empty database on one server that all tests of the process share. Start is for those
// that hurt the server.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// role owns every database that is handed out. It is no superuser: that would see through row security.
	role = "sallyport"
	// startLimit bounds making a server and waiting for it.
	startLimit = time.Minute
	// port names the socket; nothing listens on TCP.
	port = "5432"
)

// shared is the server of this process. It ends with it: see keeper.
var shared = sync.OnceValues(func() (*Server, error) { return start(true) })

// Database returns the URL of a new, empty database on the server that the process shares. It is not dropped: the server's
// directory goes as a whole.
func Database(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// Run makes a server and an empty database on it, for a program that is no test; stop ends it and removes what it kept.
func Run() (url string, stop func(), err error) {
	s, err := start(false)
	if err != nil {
		return "", nil, err
	}
	stop = func() {
		s.end()
		_ = os.RemoveAll(s.dir)
	}
	if url, err = s.create(context.Background()); err != nil {
		stop()
	}
	return url, stop, err
}

// Server is one PostgreSQL.
type Server struct {
	dir, bin  string
	passing   bool // the keeper removes the directory when the server ends
	databases atomic.Int64

	mu    sync.Mutex // guards what follows
	stdin io.Closer  // of the keeper: the server ends when it is closed
	ended chan error
}

// Start makes a server of the test's own, and has it removed when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := start(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.remove(t) })
	return s
}

func (s *Server) remove(t testing.TB) {
	s.Signal(t, syscall.SIGCONT)
	s.end()
	_ = os.RemoveAll(s.dir)
}

// binaries is the newest of Debian's versions on this machine.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errors.New("pgtest: no /usr/lib/postgresql/*/bin/postgres: apt-get install postgresql (scripts/install.sh test)")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// owner is whom the server runs as: PostgreSQL refuses to be root.
func owner() (*syscall.SysProcAttr, int, int, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		return attr, os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, 0, 0, fmt.Errorf("pgtest: as root the server runs as postgres: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, uid, gid, nil
}

func start(passing bool) (*Server, error) {
	s, err := place(passing)
	if err != nil {
		return nil, err
	}
	return s, s.make()
}

// place is a server that there will be in a directory of its own.
func place(passing bool) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	// A short name: a socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("/tmp", "pgtest")
	if err != nil {
		return nil, err
	}
	_, uid, gid, err := owner()
	if err != nil {
		return nil, err
	}
	return &Server{dir: dir, bin: bin, passing: passing}, os.Chown(dir, uid, gid)
}

// make makes the cluster and starts it.
func (s *Server) make(options ...string) error {
	attr, _, _, err := owner()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), append(options, "-D", s.data(), "-U", "postgres",
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")...)
	initdb.SysProcAttr, initdb.Dir = attr, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := s.run(); err != nil {
		return err
	}
	conn, err := s.admin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `CREATE ROLE `+role+` LOGIN`)
	return err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// keeper runs the server until its standard input ends, which it does with the test process, however that ends. What the
// process did not remove then goes too.
const keeper = `"$@" >>"$PGDATA/../log" 2>&1 3<&- &
server=$!
(cat >/dev/null; kill -QUIT $server; kill -CONT $server) <&3 2>/dev/null &
wait $server
[ -z "$REMOVE" ] || rm -rf "$REMOVE"`

func (s *Server) run() error {
	attr, _, _, err := owner()
	if err != nil {
		return err
	}
	data := s.data()
	cmd := exec.Command("/bin/sh", "-c", keeper, "keeper", filepath.Join(s.bin, "postgres"), "-D", data, "-k", s.sockets(), "-p", port,
		"-c", "listen_addresses=", "-c", "max_connections=300", "-c", "shared_buffers=32MB", "-c", "fsync=on",
		"-c", "autovacuum=off")
	cmd.SysProcAttr, cmd.Dir = attr, s.dir
	cmd.Env = append(os.Environ(), "PGDATA="+data)
	if s.passing {
		cmd.Env = append(cmd.Env, "REMOVE="+s.dir)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{read}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = read.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.mu.Lock()
	s.stdin, s.ended = write, ended
	s.mu.Unlock()
	return s.await()
}

// errEarly says that the server ended when it had just begun.
var errEarly = errors.New("it ended at once")

// await returns when the server takes connections.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := s.admin(ctx)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
			continue
		case end := <-s.ended:
			s.ended <- end
			err = errEarly
		case <-ctx.Done():
		}
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("pgtest: the server does not start: %w\n%s", err, log)
	}
}

func (s *Server) admin(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.URL("postgres", "postgres"))
}

// URL names a database of the server.
func (s *Server) URL(as, database string) string {
	return "postgres:///" + database + "?host=" + s.sockets() + "&port=" + port + "&user=" + as
}

// sockets is the directory of the Unix socket that the server listens on.
func (s *Server) sockets() string { return s.dir }

// Socket is the Unix socket that the server listens on.
func (s *Server) Socket() string { return filepath.Join(s.sockets(), ".s.PGSQL."+port) }

// Database returns the URL of a new, empty database; the role in it owns the database and is no superuser.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	url, err := s.create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func (s *Server) create(ctx context.Context) (url string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	conn, err := s.admin(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	name := "test" + strconv.FormatInt(s.databases.Add(1), 10)
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+name+` OWNER `+role+` TEMPLATE template0`); err != nil {
		return "", err
	}
	return s.URL(role, name), nil
}

// Query returns the first column of what a query finds in a database of the server, asked as the superuser: whatever a test wants to
// see, whosever it is.
func (s *Server) Query(t testing.TB, database, text string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, strings.Replace(database, "user="+role, "user=postgres", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Exec runs a statement in a database of any server here, as the superuser.
func Exec(t testing.TB, database, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, strings.Replace(database, "user="+role, "user=postgres", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, text); err != nil {
		t.Fatal(err)
	}
}

// pid is the postmaster's.
func (s *Server) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}

// Signal sends a signal to every process of the server: SIGKILL for a crash, SIGSTOP for one that hangs, SIGCONT to end that.
func (s *Server) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	pid, err := s.pid()
	if err != nil {
		return // it is not running
	}
	if signal == syscall.SIGKILL {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it makes no further process while they are counted
	}
	for _, one := range append(children(pid), pid) {
		_ = syscall.Kill(one, signal)
	}
}

func children(pid int) (all []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for word := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(word); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// Stop stops the server as pg_ctl does: "fast" or "immediate" (which is a crash of its own).
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	signals := map[string]syscall.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}
	pid, err := s.pid()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, signals[mode]); err != nil {
		t.Fatal(err)
	}
	s.Wait(t)
}

// Kill ends every process of the server without a word, and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.Signal(t, syscall.SIGKILL)
	s.Wait(t)
}

// Wait waits until the server has ended.
func (s *Server) Wait(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	select {
	case err := <-ended:
		ended <- err
	case <-time.After(startLimit):
		t.Fatal("pgtest: the server does not end")
	}
}

// Restart starts a server that has ended.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Wait(t)
	err := s.run()
	// What is left of a killed one may hold its shared memory for a moment.
	for range 50 {
		if !errors.Is(err, errEarly) {
			break
		}
		<-time.After(20 * time.Millisecond)
		err = s.run()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return // it never began
	}
	_ = s.stdin.Close()
	err := <-s.ended
	s.ended <- err // it may be asked to end more than once
}
