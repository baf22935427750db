package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is what there is for all that a server of StartSmall keeps: a new one and some of our schema, with room for a little more.
const smallDisk = "size=112m"

// StartSmall is Start on a disk of its own that Fill can fill. Where none may be mounted the test is skipped.
func StartSmall(t testing.TB) *Server {
	t.Helper()
	s, err := place(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.remove(t) })
	_, uid, gid, err := owner()
	if err = errors.Join(err, os.Mkdir(s.data(), 0o700)); err != nil {
		t.Fatal(err)
	}
	err = unix.Mount("tmpfs", s.data(), "tmpfs", 0, fmt.Sprintf("%s,mode=0700,uid=%d,gid=%d", smallDisk, uid, gid))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip("needs root: tmpfs")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.end()
		_ = unix.Unmount(s.data(), unix.MNT_DETACH)
	})
	if err := s.make("--wal-segsize=1"); err != nil { // MiB: a log that is not full long before the disk
		t.Fatal(err)
	}
	return s
}

func (s *Server) ballast() string { return filepath.Join(s.data(), "ballast") }

// Fill takes what is left of the disk of StartSmall, and then has the server write until it cannot: it ends by that, or refuses.
func (s *Server) Fill(t testing.TB) {
	t.Helper()
	f, err := os.Create(s.ballast())
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := s.admin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for err == nil && ctx.Err() == nil {
		_, err = conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 500000))`)
	}
	if ctx.Err() != nil {
		t.Fatal("pgtest: the disk does not fill")
	}
}

// Free gives back what Fill took, and starts the server again if it ended by it.
func (s *Server) Free(t testing.TB) {
	t.Helper()
	if err := os.Remove(s.ballast()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	select {
	case err := <-ended:
		ended <- err
		s.Restart(t)
	default:
	}
}
