//go:build unix

package connector

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockState keeps a second process out of the state directory: two with one key would look to the edge like a stolen key.
// The kernel gives the lock up with the process, however that ends.
func lockState(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	_ = adopt(f, dir) // for who runs next; no reason not to run now
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another connector runs with the state in %s", dir)
	}
	return f, nil
}

// adopt gives a file that root wrote to whoever owns its directory: under systemd the connector runs as a user of its own,
// and root enrols it, or runs it once to see whether it works.
func adopt(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is unknown", dir)
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
