package service

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUnitsRunUnprivilegedAndHardened(t *testing.T) {
	connector, err := Connector{Program: "/usr/local/bin/connector", Config: "/etc/sallyport/connector.yaml"}.Render()
	if err != nil {
		t.Fatal(err)
	}
	edge, err := Edge{Program: "/usr/local/bin/edge", Config: "/etc/sallyport/edge.yaml"}.Render()
	if err != nil {
		t.Fatal(err)
	}
	both := []string{
		"Type=notify", "DynamicUser=yes", "ProtectSystem=strict", "ProtectHome=yes", "NoNewPrivileges=yes", "StateDirectoryMode=0700",
		"WatchdogSec=30", "Restart=always", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "UMask=0077",
	}
	for name, row := range map[string]struct {
		text string
		want []string
	}{
		ConnectorUnit: {connector, append(both, "StateDirectory=sallyport-connector",
			"ExecStart=/usr/local/bin/connector run --config /etc/sallyport/connector.yaml --state-dir %S/sallyport-connector", "ExecReload=kill -HUP $MAINPID",
			"CapabilityBoundingSet=", "RestartPreventExitStatus=3")},
		EdgeUnit: {edge, append(both, "StateDirectory=sallyport-edge",
			"ExecStart=/usr/local/bin/edge serve --config /etc/sallyport/edge.yaml --state-dir %S/sallyport-edge", "ExecReload=kill -HUP $MAINPID",
			"CapabilityBoundingSet=CAP_NET_BIND_SERVICE")},
	} {
		lines := strings.Split(row.text, "\n")
		for _, want := range row.want {
			found := false
			for _, line := range lines {
				found = found || line == want
			}
			if !found {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
}

// systemd itself reads the units, where it is installed: a directive that it does not know is a fault.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	dir := t.TempDir()
	program, err := os.Executable() // verify wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	program = link(t, program, filepath.Join(dir, "program"))
	file := filepath.Join(dir, "file.yaml")
	units := map[string]string{}
	units[ConnectorUnit], err = Connector{Program: program, Config: file}.Render()
	if err != nil {
		t.Fatal(err)
	}
	units[EdgeUnit], err = Edge{Program: program, Config: file}.Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range units {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name) {
				t.Errorf("systemd: %s", strings.TrimSpace(line))
			}
		}
		if err != nil && strings.Contains(string(out), name) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func link(t *testing.T, from, to string) string {
	t.Helper()
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestPathsThatAUnitReadsOtherwiseAreRefused(t *testing.T) {
	for _, bad := range []string{"", "relative", "/a b", "/a%i", "/a$x", "/a\nExecStartPre=/bin/sh", "/a:b", `/a"b`, "/a;b", "/@config@", "/a/../b", "/a\\x20b"} {
		if text, err := (Connector{Program: bad, Config: "/x"}).Render(); err == nil {
			t.Errorf("program %q: %s", bad, text)
		}
		if _, err := (Connector{Program: "/x", Config: bad}).Render(); err == nil {
			t.Errorf("configuration %q accepted", bad)
		}
	}
}

func TestInstallAndUninstall(t *testing.T) {
	dir := t.TempDir()
	var calls []string
	broken := false
	m := Manager{Dir: dir, Systemctl: func(_ context.Context, args ...string) (string, error) {
		calls = append(calls, strings.Join(args, " "))
		if broken {
			return "no bus", errors.New("exit status 1")
		}
		return "", nil
	}}
	if err := m.Install(t.Context(), "x.service", "[Service]\n"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "x.service")); err != nil || string(text) != "[Service]\n" {
		t.Errorf("%q %v", text, err)
	}
	if err := m.Uninstall(t.Context(), "x.service"); err != nil {
		t.Fatal(err)
	}
	if err := m.Uninstall(t.Context(), "x.service"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	want := []string{"daemon-reload", "enable x.service", "restart x.service", "disable --now x.service", "daemon-reload"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	broken = true
	if err := m.Install(t.Context(), "x.service", ""); err == nil || !strings.Contains(err.Error(), "no bus") {
		t.Errorf("systemctl's words are lost: %v", err)
	}
}

func TestNotifierSpeaksToTheServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", "")
	os.Unsetenv("WATCHDOG_PID")
	n := NewNotifier()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	n.Ready()
	go func() { done <- n.Watch(ctx, func() string { return "ready over quic" }) }()
	var got []string
	buf := make([]byte, 256)
	for range 4 {
		_ = manager.SetReadDeadline(time.Now().Add(5 * time.Second))
		size, err := manager.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:size]))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"READY=1", "STATUS=ready over quic", "WATCHDOG=1", "WATCHDOG=1"}, got); diff != "" {
		t.Error(diff)
	}
}
