package connector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// noProxies takes the environment's proxies away.
func noProxies(t *testing.T) {
	t.Helper()
	for _, name := range []string{"HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, "")
		t.Setenv(strings.ToLower(name), "")
	}
}

// The service gets out of the building as the command line did that installed it: the file and the state directory alone, without
// flags and environment, lead through the same proxy with the same user.
func TestServiceGoesOutAsItsInstallerDid(t *testing.T) {
	password := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(password, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		flags map[string]string
		env   map[string]string
		file  string
		want  string // through which proxy
	}{
		"flag":                 {flags: map[string]string{"proxy": "http://u:p%40ss@p.example:3128"}, want: "http://u:p%40ss@p.example:3128"},
		"flag without user":    {flags: map[string]string{"proxy": "socks5://p.example"}, want: "socks5://p.example:1080"},
		"our variable":         {env: map[string]string{"SALLYPORT_PROXY": "https://p.example"}, want: "https://p.example:443"},
		"everybody's variable": {env: map[string]string{"HTTPS_PROXY": "http://u:s3cret@p.example:8080"}, want: "http://u:s3cret@p.example:8080"},
		"exempted":             {env: map[string]string{"HTTPS_PROXY": "http://p.example:8080", "NO_PROXY": ".example"}, want: "none"},
		"password file": {
			flags: map[string]string{"proxy": "http://u@p.example:3128", "proxy-password-file": password}, want: "http://u:from-file@p.example:3128",
		},
		"the file names another": {
			flags: map[string]string{"proxy": "http://new.example:3128"}, file: "# ours\nproxy: http://u@old.example:1 # old\nproxy_password_file: STATE/proxy.password\n",
			want: "http://new.example:3128",
		},
		"off": {flags: map[string]string{"proxy": "none"}, env: map[string]string{"HTTPS_PROXY": "http://p.example:8080"}, want: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			noProxies(t)
			for name, value := range row.env {
				t.Setenv(name, value)
			}
			state := t.TempDir()
			row.file = strings.ReplaceAll(row.file, "STATE", state)
			path := filepath.Join(t.TempDir(), "connector.yaml")
			if err := os.WriteFile(path, []byte(row.file), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := Default()
			cfg.StateDir = state
			settings, err := conf.Load(cfg, conf.Options{File: path, Flags: row.flags})
			if err != nil {
				t.Fatal(err)
			}
			in, err := cfg.ForService([]byte(row.file), settings.Given(), "edge.example:443")
			if err != nil {
				t.Fatal(err)
			}
			if err := in.KeepPassword(state); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, in.File, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{"p%40ss", "p@ss", "s3cret", "from-file"} {
				if strings.Contains(string(in.File), word) {
					t.Errorf("a password lies open:\n%s", in.File)
				}
			}
			if strings.Contains(row.file, "# ours") && !strings.Contains(string(in.File), "# ours") {
				t.Errorf("a comment is gone:\n%s", in.File)
			}
			noProxies(t)
			got := Default()
			got.StateDir = state
			if _, err := conf.Load(got, conf.Options{File: path, Env: func(string) (string, bool) { return "", false }}); err != nil {
				t.Fatalf("%v in\n%s", err, in.File)
			}
			way, err := got.Egress()
			if err != nil {
				t.Fatalf("%v in\n%s", err, in.File)
			}
			u, err := way.For("edge.example:443")
			if err != nil {
				t.Fatal(err)
			}
			through := "none"
			if u != nil {
				through = u.String()
			}
			if through != row.want {
				t.Errorf("through %s, want %s:\n%s", through, row.want, in.File)
			}
			if info, err := os.Stat(filepath.Join(state, passwordFile)); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("the password's mode is %v", info.Mode())
			}
		})
	}
}

func TestServiceIsNotGivenWhatItCannotRead(t *testing.T) {
	noProxies(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.StateDir, cfg.CAFile = t.TempDir(), ca
	if _, err := cfg.ForService(nil, []string{"ca_file"}, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("an empty CA file under /tmp: %v", err)
	}
	if err := ReadableByService(ca); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file under /tmp: %v", err)
	}
	if err := ReadableByService("/etc/shadow"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "chmod a+r") {
		t.Errorf("a file for root alone: %v", err)
	}
	if err := ReadableByService("/etc/passwd"); err != nil {
		t.Errorf("a file for everybody: %v", err)
	}
	if err := ReadableByService("/etc/sallyport/none.yaml"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
}
