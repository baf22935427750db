// Package disktest gives tests a disk of their own that is soon full.
package disktest

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount puts an empty disk in the place of dir, which must be there, until the test ends; options are tmpfs(5)'s, the size among
// them. Where nothing may be mounted the test is skipped.
func Mount(t testing.TB, dir, options string) {
	t.Helper()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip("needs root: tmpfs")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// Fill takes what is left of a disk with a new file, and gives it back when that is removed.
func Fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
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
}
