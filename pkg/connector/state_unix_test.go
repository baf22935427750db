//go:build unix

package connector

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A connector that root ran once must not lock out the user that the service runs as.
func TestLockBelongsToTheOwnerOfTheState(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lockState(dir); err == nil {
		t.Error("two processes hold the state")
	}
	var owner, file syscall.Stat_t
	if err := syscall.Stat(dir, &owner); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Stat(filepath.Join(dir, "lock"), &file); err != nil {
		t.Fatal(err)
	}
	if owner.Uid != file.Uid || owner.Gid != file.Gid || file.Mode&0o777 != 0o600 {
		t.Errorf("lock of %d:%d mode %o in a directory of %d:%d", file.Uid, file.Gid, file.Mode&0o777, owner.Uid, owner.Gid)
	}
}
