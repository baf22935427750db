package conf_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

type amended struct {
	Proxy string        `conf:"proxy"`
	Allow []string      `conf:"allow"`
	Limit time.Duration `conf:"limit"`
	Log   struct {
		Format string `conf:"format"`
		Level  string `conf:"level"`
	} `conf:"log"`
	Key secret.Redacted `conf:"key"`
}

func TestAmendKeepsWhatPeopleWrote(t *testing.T) {
	src := amended{Proxy: "http://u@p.example:3128", Allow: []string{"10.0.0.5:8443", "loopback"}, Limit: 90 * time.Second}
	src.Log.Level = "a: b" // means something else without quotes
	for name, row := range map[string]struct{ text, want string }{
		"empty":    {"", "proxy: http://u@p.example:3128\nallow: [\"10.0.0.5:8443\", loopback]\nlimit: 1m30s\nlog:\n  level: \"a: b\"\n"},
		"comments": {"# ours", "# ours\nproxy: http://u@p.example:3128\nallow: [\"10.0.0.5:8443\", loopback]\nlimit: 1m30s\nlog:\n  level: \"a: b\"\n"},
		"in place": {
			"# way out\nproxy: none # since May\nlog: {format: console, level: warn}\nallow:\n  - loopback\nlimit: 1s\n",
			"# way out\nproxy: http://u@p.example:3128 # since May\nlog: {format: console, level: \"a: b\"}\nallow: [\"10.0.0.5:8443\", loopback]\nlimit: 1m30s\n",
		},
	} {
		got, err := conf.Amend([]byte(row.text), &src, "proxy", "allow", "limit", "log.level")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(row.want, strings.ReplaceAll(string(got), "'", `"`)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAmendWritesNoSecretsAndBreaksNothing(t *testing.T) {
	src := amended{Key: secret.Redact("k")}
	for text, key := range map[string]string{"": "key", "# x\n": "nobody.knows", "log: [a]\n": "log.level", "log: {": "proxy"} {
		if got, err := conf.Amend([]byte(text), &src, key); err == nil {
			t.Errorf("%q in %q: %s", key, text, got)
		}
	}
	if got, err := conf.Amend([]byte("# as it was"), &src); err != nil || string(got) != "# as it was" {
		t.Errorf("%q %v", got, err)
	}
}
