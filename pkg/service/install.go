package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unitDir is where the administrator's units live (systemd.unit(5)).
const unitDir = "/etc/systemd/system"

// Manager installs units. The zero value talks to this machine's systemd.
type Manager struct {
	// Dir is where units are written; default /etc/systemd/system.
	Dir string
	// Systemctl runs systemctl; nil runs the real one.
	Systemctl func(ctx context.Context, args ...string) (output string, err error)
}

// Install writes the unit, enables it and starts it, or starts it again if it ran.
func (m Manager) Install(ctx context.Context, unit, text string) error {
	if err := WriteFile(filepath.Join(m.dir(), unit), []byte(text)); err != nil {
		return err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", unit}, {"restart", unit}} {
		if out, err := m.systemctl(ctx, args...); err != nil {
			return fmt.Errorf("systemctl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// Uninstall stops the unit and removes it. What it kept in its state directory stays. A unit that is not there is no error.
func (m Manager) Uninstall(ctx context.Context, unit string) error {
	path := filepath.Join(m.dir(), unit)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if out, err := m.systemctl(ctx, "disable", "--now", unit); err != nil {
		return fmt.Errorf("systemctl disable: %w\n%s", err, out)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("unit: %w", err)
	}
	if out, err := m.systemctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("systemctl daemon-reload: %w\n%s", err, out)
	}
	return nil
}

// Status returns what systemctl says of the unit; running is whether it is active.
func (m Manager) Status(ctx context.Context, unit string) (text string, running bool) {
	text, err := m.systemctl(ctx, "--no-pager", "--lines=5", "status", unit)
	if err != nil && strings.TrimSpace(text) == "" {
		text = fmt.Sprintf("systemctl: %v\n", err)
	}
	return text, err == nil
}

func (m Manager) dir() string {
	if m.Dir != "" {
		return m.Dir
	}
	return unitDir
}

func (m Manager) systemctl(ctx context.Context, args ...string) (string, error) {
	if m.Systemctl != nil {
		return m.Systemctl(ctx, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	return string(out), err
}

// WriteFile puts a file that everybody may read in place whole, or not at all: systemd may read its directory at any time, and a
// service its configuration. The directory is made if it is not there.
func WriteFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sallyport-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
