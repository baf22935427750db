package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/store/disktest"
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
	disktest.Mount(t, s.data(), fmt.Sprintf("%s,mode=0700,uid=%d,gid=%d", smallDisk, uid, gid))
	t.Cleanup(s.end)
	if err := s.make("--wal-segsize=1"); err != nil { // MiB: a log that is not full long before the disk
		t.Fatal(err)
	}
	return s
}

func (s *Server) ballast() string { return filepath.Join(s.data(), "ballast") }

// Fill takes what is left of the disk of StartSmall, and then has the server write until it cannot: it ends by that, or refuses.
func (s *Server) Fill(t testing.TB) {
	t.Helper()
	disktest.Fill(t, s.ballast())
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
