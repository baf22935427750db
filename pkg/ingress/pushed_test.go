package ingress

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func bounds(t testing.TB, list ...string) *Bounds {
	t.Helper()
	b, err := ParseBounds(list)
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

// Whoever holds the edge reaches what the clinic listed, however an address is written, and nothing else.
func TestPushedRulesNameOriginsWithinBounds(t *testing.T) {
	for _, c := range []struct {
		allow   []string
		origin  string
		allowed bool
	}{
		{[]string{"loopback"}, "http://127.0.0.1:8080", true},
		{[]string{"loopback"}, "https://localhost:8443", true},
		{[]string{"loopback"}, "https://LOCALHOST", true},
		{[]string{"loopback"}, "http://127.9.9.9", true},
		{[]string{"loopback"}, "http://[::1]:8080", true},
		{[]string{"loopback"}, "http://[::ffff:127.0.0.1]:8080", true},
		{[]string{"loopback"}, "http://10.0.0.5", false},
		{[]string{"loopback"}, "http://169.254.169.254", false},
		{[]string{"loopback"}, "http://0.0.0.0:8080", false},
		{[]string{"loopback"}, "http://[::]:8080", false},
		{[]string{"loopback"}, "http://127.1:8080", false},
		{[]string{"loopback"}, "http://2130706433", false},
		{[]string{"loopback"}, "http://localhost.evil.example", false},
		{[]string{"loopback:8443"}, "https://127.0.0.1:8443", true},
		{[]string{"loopback:8443"}, "https://127.0.0.1:8444", false},
		{[]string{"loopback:443"}, "https://127.0.0.1", true},
		{nil, "http://127.0.0.1", false},
		{[]string{"10.0.0.5:8443", "oscar.lan"}, "https://10.0.0.5:8443", true},
		{[]string{"10.0.0.5:8443", "oscar.lan"}, "https://10.0.0.5:22", false},
		{[]string{"10.0.0.5:8443", "oscar.lan"}, "https://oscar.lan:9", true},
		{[]string{"10.0.0.5:8443", "oscar.lan"}, "https://oscar.lan.:9", true},
		{[]string{"10.0.0.5:8443", "oscar.lan"}, "https://x.oscar.lan", false},
		{[]string{"10.0.0.0/28:8443"}, "https://10.0.0.15:8443", true},
		{[]string{"10.0.0.0/28:8443"}, "https://10.0.0.16:8443", false},
		{[]string{"[fd00::/64]:8443"}, "https://[fd00::7]:8443", true},
		{[]string{"fd00::7"}, "https://[fd00::7]:8443", true},
		{[]string{"fd00::7"}, "https://[fd00::8]:8443", false},
	} {
		_, faults := LoadPushed([]byte("rules:\n  - origin: "+c.origin+"\n"), bounds(t, c.allow...))
		if allowed := len(faults) == 0; allowed != c.allowed {
			t.Errorf("%v, %s: %v", c.allow, c.origin, errors.Join(faults...))
		}
	}
	// Every origin of a list is held to the bounds, not only the first.
	for _, second := range []string{"http://10.0.0.5", `{url: "http://169.254.169.254"}`} {
		if _, faults := LoadPushed([]byte("rules:\n  - origins: [http://127.0.0.1, "+second+"]\n"), bounds(t, "loopback")); len(faults) == 0 {
			t.Errorf("a standby at %s was accepted", second)
		}
	}
	for _, bad := range []string{"", "http://x", "a b", "10.0.0.5:0", "10.0.0.5:x", "10.0.0.5:+80", "10.0.0.5:080", "10.0.0.5:70000", "10.0.0.0/40", "127.1", "*", "x/y"} {
		if _, err := ParseBounds([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// No spelling of the key makes the connector open a file that the edge chose.
func TestPushedRulesNameNoFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("secret of this machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ca_file", `"ca_file"`, `!!binary "Y2FfZmlsZQ=="`, `"ca\x5ffile"`} {
		for _, path := range []string{file, filepath.Join(t.TempDir(), "none")} {
			_, faults := LoadPushed([]byte("rules:\n  - origin: https://127.0.0.1\n    tls: {"+key+": "+path+"}\n"), nil)
			if err := errors.Join(faults...); err == nil || strings.Contains(err.Error(), "PEM") || strings.Contains(err.Error(), "no such file") {
				t.Errorf("%s: %v", key, err)
			}
			_, faults = LoadPushed([]byte("rules:\n  - origins:\n    - url: https://127.0.0.1\n      tls: {"+key+": "+path+"}\n"), nil)
			if err := errors.Join(faults...); err == nil || strings.Contains(err.Error(), "PEM") || strings.Contains(err.Error(), "no such file") {
				t.Errorf("in a list, %s: %v", key, err)
			}
		}
	}
}

func TestPushedRulesNeverSpeakFromTrustedAddresses(t *testing.T) {
	for _, source := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		if _, faults := LoadPushed([]byte("rules:\n  - origin: http://127.0.0.1\n    source: \""+source+"\"\n"), nil); len(faults) == 0 {
			t.Errorf("source %s was accepted", source)
		}
	}
	rules, faults := LoadPushed([]byte("rules:\n  - origin: http://127.0.0.1\n"), nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if !New(Config{Rules: rules}).current.Load().origins[0].dialer.unlocal {
		t.Error("an origin on this machine would see 127.0.0.1")
	}
	if _, faults := LoadPushed(make([]byte, MaxPushed+1), nil); len(faults) != 1 || !strings.Contains(faults[0].Error(), "131072") {
		t.Errorf("too large: %v", faults)
	}
}

func TestFilesThatRulesNameAreFoundInBadRulesToo(t *testing.T) {
	got := Files([]byte("rules:\n  - orign: x\n    tls: {ca_file: /a.pem}\n  - origins:\n    - tls: {ca_file: /b.pem}\n"))
	if strings.Join(got, " ") != "/a.pem /b.pem" {
		t.Errorf("%q", got)
	}
	if got := Files([]byte("\tnot yaml")); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func FuzzLoadPushed(f *testing.F) {
	f.Add([]byte("rules:\n  - origin: http://127.0.0.1\n    tls: {ca_file: x}\n  - status: 404\n"))
	f.Add([]byte("rules: [{origins: [http://127.0.0.1:8080, {url: https://127.0.0.1:8080, tls: {ca_file: x}}, http://b]}]"))
	allow := bounds(f, "loopback:8080")
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, faults := LoadPushed(text, allow)
		Files(text)
		if (rules == nil) != (len(faults) > 0) {
			t.Fatal("neither rules nor a fault, or both")
		}
		for i := 0; rules != nil && i < rules.Len(); i++ {
			for _, o := range rules.list[i].Origins {
				if !allow.permit(o.URL) || o.TLS.CAFile != "" {
					t.Fatalf("%s", &rules.list[i])
				}
			}
		}
	})
}
