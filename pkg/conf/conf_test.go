package conf_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

type mail struct {
	Host     string          `conf:"host" help:"SMTP host"`
	Port     int             `conf:"port"`
	Password secret.Redacted `conf:"password"`
}

func (m *mail) Validate() error {
	if m.Port == 0 {
		return errors.New("mail.port: want 1 to 65535")
	}
	return nil
}

type pair struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

type config struct {
	Listen string        `conf:"listen"`
	Wait   time.Duration `conf:"wait"`
	Trial  bool          `conf:"trial_run"`
	Hosts  []string      `conf:"hosts"`
	Certs  []pair        `conf:"certificates"`
	Mail   mail          `conf:"mail"`
}

func defaults() *config { return &config{Listen: ":443", Wait: time.Second, Mail: mail{Port: 587}} }

func load(t *testing.T, text string, env, flags map[string]string) (*config, conf.Settings, error) {
	t.Helper()
	c := defaults()
	file := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := conf.Load(c, conf.Options{File: file, Flags: flags, Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }})
	return c, s, err
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	c, s, err := load(t, "listen: :1\nwait: 2s\ntrial_run: true\nmail: {host: file, port: 25, password: hunter2}\ncertificates:\n- {cert: a, key: b}\n",
		map[string]string{"SALLYPORT_LISTEN": ":2", "SALLYPORT_MAIL_HOST": "env"}, map[string]string{"listen": ":3"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":3" || c.Mail.Host != "env" || c.Mail.Port != 25 || c.Wait != 2*time.Second || !c.Trial || c.Mail.Password.Reveal() != "hunter2" {
		t.Errorf("got %+v", c)
	}
	if diff := cmp.Diff([]pair{{"a", "b"}}, c.Certs); diff != "" {
		t.Error(diff)
	}
	shown := s.String()
	for _, want := range []string{"flag --listen", "environment SALLYPORT_MAIL_HOST", "edge.yaml:2", "default"} {
		if !strings.Contains(shown, want) {
			t.Errorf("--show-config lacks %q:\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "hunter2") {
		t.Error("--show-config shows a secret")
	}
}

func TestEveryFaultIsReportedAtOnceWithItsPlace(t *testing.T) {
	_, _, err := load(t, "listn: :1\nwait: soon\ntrial_run: perhaps\nmail:\n  hots: x\n", nil, map[string]string{"mail-port": "many"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"edge.yaml:1: unknown key listn", "edge.yaml:2", "edge.yaml:3", "edge.yaml:5: unknown key mail.hots", "--mail-port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
}

func TestOddFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"twice": "listen: a\nlisten: b\n", "anchor": "listen: &a x\n", "no mapping": "- a\n", "list for text": "listen: [a]\n",
		"unknown in list": "certificates:\n- {crt: a}\n", "invalid value": "mail: {port: 0}\n", "not yaml": "a: b: c\n",
	} {
		if _, _, err := load(t, text, nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := load(t, "", nil, nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	if _, _, err := load(t, "", map[string]string{"SALLYPORT_MAIL_PASSWORD": "x"}, nil); err != nil {
		t.Errorf("a secret in the environment is left alone: %v", err)
	}
	if _, err := conf.Load(defaults(), conf.Options{File: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a missing file was accepted")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("listen: :1\nmail: {port: 25}\n")
	f.Add("certificates:\n- {cert: a, key: b}\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _ = load(t, text, nil, nil)
	})
}

func TestChangedNamesTheKeysThatDiffer(t *testing.T) {
	a, b := defaults(), defaults()
	a.Certs = []pair{} // as good as none
	if keys := conf.Changed(a, b); len(keys) != 0 {
		t.Errorf("%v differ", keys)
	}
	b.Listen, b.Hosts, b.Mail.Password = ":1", []string{"a"}, secret.Redact("other")
	if got := strings.Join(conf.Changed(a, b), " "); got != "listen hosts mail.password" {
		t.Errorf("%s", got)
	}
}
