package edge

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// configured is an edge that serves, and the file that its configuration is read from.
type configured struct {
	*Edge
	t     *testing.T
	file  string
	base  string
	level atomic.Pointer[string]
}

// fromFile runs an edge with a configuration file of the keys that tests need and those given. The file is watched, or left to
// Reload.
func fromFile(t *testing.T, keys string, watched bool) *configured {
	t.Helper()
	c := prepared(t)
	f := &configured{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	f.base = fmt.Sprintf("state_dir: %s\nhost: edge.example\nlisten: 127.0.0.1:0\nloopback: 127.0.0.1:0\n", c.StateDir)
	f.write(keys)
	load := func() (Config, error) {
		fresh := Default()
		_, err := conf.Load(&fresh, conf.Options{File: f.file, Env: func(string) (string, bool) { return "", false }})
		return fresh, err
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if f.Edge, err = New(t.Context(), c, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	source := Source{Load: load, SetLevel: func(level string) error { f.level.Store(&level); return nil }}
	if watched {
		source.File = f.file
	}
	f.Follow(source)
	serving(t, f.Edge)
	return f
}

func (f *configured) write(keys string) {
	f.t.Helper()
	if err := os.WriteFile(f.file, []byte(f.base+keys), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *configured) serial() int64 {
	f.t.Helper()
	cert, err := handshake(f.t, f.Edge, "edge.example")
	if err != nil {
		f.t.Fatal(err)
	}
	return cert.SerialNumber.Int64()
}

// testMail is what an operator is told who tries the mail.
func (f *configured) testMail() string {
	_, err := adminapi.Dial(f.config.Socket()).TestMail(f.t.Context(), &adminv1.TestMailRequest{To: "it@msp.example"})
	if err == nil {
		return ""
	}
	return err.Error()
}

// says checks /ready, which stays 200, and how often the metric counted each result.
func (f *configured) says(config string, counts map[string]float64) {
	f.t.Helper()
	if status, answer := ask(f.t, f.Edge); status != http.StatusOK || !strings.HasPrefix(answer.Config, config) || config == "" && answer.Config != "" {
		f.t.Errorf("/ready: %d, config %q, want %q", status, answer.Config, config)
	}
	families, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "sallyport_config_reload_total" {
			for _, m := range family.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(counts) {
		f.t.Errorf("sallyport_config_reload_total: %v, want %v", got, counts)
	}
}

func (f *configured) pair(serial int64) string {
	f.t.Helper()
	dir := f.t.TempDir()
	c := Certificate{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	issue(f.t, c, serial)
	return fmt.Sprintf("certificates: [{cert: %s, key: %s}]\n", c.Cert, c.Key)
}

func TestAChangedConfigurationFileIsInForceWithoutARestart(t *testing.T) {
	first := (&configured{t: t}).pair(1)
	f := fromFile(t, first, true)
	eventually(t, "the admin socket", func() bool { return strings.Contains(f.testMail(), "no mail server is configured") })
	f.write(f.pair(2) + "mail: {host: localhost, port: 1, from: signin@msp.example}\nlog: {level: debug}\n")
	eventually(t, "the other certificate", func() bool { return f.serial() == 2 })
	eventually(t, "the other level of the log", func() bool { return f.level.Load() != nil && *f.level.Load() == "debug" })
	if words := f.testMail(); !strings.Contains(words, "the mail server did not take it") {
		t.Errorf("mail with a server that is not there: %s", words)
	}
	f.says("", map[string]float64{"applied": 1})

	f.write(first)
	f.Reload()
	if words := f.testMail(); !strings.Contains(words, "no mail server is configured") {
		t.Errorf("mail without a server: %s", words)
	}
	if got := f.serial(); got != 1 {
		t.Errorf("certificate %d", got)
	}
	f.says("", map[string]float64{"applied": 2})
}

func TestAFaultyConfigurationChangesNothing(t *testing.T) {
	good := (&configured{t: t}).pair(1)
	f := fromFile(t, good, false)
	other := f.pair(2)
	for i, row := range []struct{ keys, want string }{
		{other + "log: {level: loud}\n", "log.level"},
		{other + "colour: red\n", "unknown key colour"},
		{other + "mail: {host: localhost, from: signin@msp.example, ca_file: /no/such/file}\n", "ca_file"},
		{"certificates: [{cert: /no/cert.pem, key: /no/key.pem}]\nmail: {host: localhost, from: signin@msp.example}\n", "/no/cert.pem"},
		{"certificates: [\n", "yaml"},
	} {
		f.write(row.keys)
		f.Reload()
		if _, answer := ask(t, f.Edge); !strings.Contains(answer.Config, row.want) {
			t.Errorf("/ready says %q, want %q", answer.Config, row.want)
		}
		f.says("rejected: ", map[string]float64{"rejected": float64(i + 1)})
		if got := f.serial(); got != 1 {
			t.Errorf("certificate %d", got)
		}
		if err := f.mailer.Send(t.Context(), mail.Message{}); !errors.Is(err, mail.ErrNoServer) {
			t.Errorf("mail: %v", err)
		}
		if f.level.Load() != nil {
			t.Error("the log's level changed")
		}
	}
	f.write(good)
	f.Reload()
	f.says("", map[string]float64{"rejected": 5, "applied": 1})
}

func TestKeysThatNeedARestartAreNamed(t *testing.T) {
	f := fromFile(t, "", false)
	f.write("quic: false\npublic_port: 443\nlog: {level: warn}\n" + f.pair(2)) // from the local CA to files
	f.Reload()
	f.says("needs edge restart: public_port, quic, certificates", map[string]float64{"needs_restart": 1})
	if f.level.Load() == nil || *f.level.Load() != "warn" {
		t.Error("what can change did not")
	}
	f.Reload()
	f.says("needs edge restart: public_port, quic, certificates", map[string]float64{"needs_restart": 1}) // told once
	f.write("log: {level: warn}\n")
	f.Reload()
	f.says("", map[string]float64{"needs_restart": 1, "applied": 1})
}

func TestEdgesAndDrainChangeWithoutARestart(t *testing.T) {
	f := fromFile(t, "edges: [{url: \"https://edge.example\"}]\n", false)
	f.write("edges: [{url: \"https://edge.example\"}, {url: \"https://other.example\", weight: 2}]\ndrain: {requests: 1s, announce: 2s, upgraded: 3s}\n")
	f.Reload()
	f.says("", map[string]float64{"applied": 1})
	if got := f.current(); len(got.Edges) != 2 || got.Drain.whole() != 6*time.Second {
		t.Errorf("in force: %+v, drain %+v", got.Edges, got.Drain)
	}
	f.write("edges: [{url: \"http://edge.example\"}]\n")
	f.Reload()
	f.says("rejected: edges: ", map[string]float64{"applied": 1, "rejected": 1})
	if got := f.current(); len(got.Edges) != 2 {
		t.Errorf("in force: %+v", got.Edges)
	}
}
