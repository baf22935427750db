//go:build unix

package connector

import (
	"fmt"
	"os"
	"syscall"
)

// adopt gives a file that root wrote to whoever owns its directory: under systemd the connector runs as a user of its own,
// and root enrols it.
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
