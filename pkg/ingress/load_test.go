package ingress

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func load(t testing.TB, text string) *Rules {
	t.Helper()
	rules, faults := Load([]byte(text))
	if len(faults) > 0 {
		t.Fatal(errors.Join(faults...))
	}
	return rules
}

func TestLoad(t *testing.T) {
	rules := load(t, `
rules:
  - host: oscar.maple.example
    path: /oscar/
    origin: https://127.0.0.1:8443/
    preset: oscar
    context: [/oscar, /kaiemr]
    tls: {pin_sha256: "sha256:`+strings.Repeat("A", 43)+`", server_name: tomcat}
    timeouts: {response_header: 10m, dial: 5s}
    parallel: 8
    source: 127.0.0.2
    health: {interval: 1m}
  - host: oscar.maple.example
    origin: http://app.clinic.lan
  - status: 404
`)
	r := rules.All()[0]
	want := DefaultTimeouts()
	want.ResponseHeader, want.Dial, want.KeepAlive = 10*time.Minute, 5*time.Second, tomcatKeepAlive
	if r.Path != "/oscar" || r.Origin.String() != "https://127.0.0.1:8443" || r.Timeouts != want || r.Parallel != 8 || r.Line != 3 ||
		r.Source != netip.MustParseAddr("127.0.0.2") || len(r.TLS.Pin) != 32 || r.TLS.ServerName != "tomcat" {
		t.Errorf("first rule %+v", r)
	}
	if diff := cmp.Diff([]string{"/oscar", "/kaiemr"}, r.Contexts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Probe{Path: "/oscar/index.jsp", Interval: time.Minute, Timeout: 10 * time.Second}, r.Health); diff != "" {
		t.Error(diff)
	}
	if second := rules.All()[1]; second.Parallel != 100 || second.Timeouts != DefaultTimeouts() || second.Path != "/" {
		t.Errorf("defaults %+v", second)
	}
	for _, c := range []struct {
		host, path string
		want       int
	}{
		{"oscar.maple.example", "/oscar", 1},
		{"OSCAR.maple.example.:8443", "/oscar/x", 1},
		{"oscar.maple.example", "/oscarx", 2},
		{"oscar.maple.example", "/", 2},
		{"other.example", "/oscar", 3},
		{"", "/", 3},
	} {
		if got, index := rules.Match(c.host, c.path); got.Index != c.want || index != c.want-1 {
			t.Errorf("Match(%q, %q) = rule %d, want %d", c.host, c.path, got.Index, c.want)
		}
	}
}

func TestLoadReportsEveryFaultWithItsLine(t *testing.T) {
	_, faults := Load([]byte(`rules:
  - host: Oscar.example:443
    origin: https://user@host/path
  - origin: ftp://x
    colour: red
  - path: oscar
    origin: http://10.0.0.1
    tls: {ca_file: /nowhere}
    timeouts: {dial: soon}
    parallel: 0
    context: /oscar
  - origin: https://10.0.0.1
    tls: {ca_file: /nowhere.pem, pin_sha256: "sha256:AAAA"}
  - origin: http://10.0.0.2
    preset: oscar
    source: 127.0.0.1
  - service: status:200
    host: last.example
`))
	var got []string
	for _, f := range faults {
		line, rest, _ := strings.Cut(f.Error(), ": ")
		word, _, _ := strings.Cut(rest, " ")
		got = append(got, line+" "+word)
	}
	want := []string{
		"line 5 unknown", "line 2 host", "line 3 origin", "line 4 origin", "line 6 path", "line 8 tls", "line 9 dial", "line 10 parallel",
		"line 11 context", "line 13 pin_sha256:", "line 13 ca_file:", "line 16 source", "line 17 status",
		"line 12 rule", "line 14 rule", "line 17 rule", "line 17 the",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s\n%v", diff, errors.Join(faults...))
	}
}

func TestLoadOrigins(t *testing.T) {
	pin := "sha256:" + strings.Repeat("A", 43)
	rules := load(t, `rules:
  - origins:
      - {name: main, url: "https://10.0.0.5:8443", tls: {pin_sha256: "`+pin+`"}}
      - https://10.0.0.6:8443
    tls: {server_name: tomcat}
    balance: spread
    health: {status: [200, 302], timeout: 2s}
`)
	r := rules.All()[0]
	if len(r.Origins) != 2 || r.Balance != BalanceSpread || r.Origin.Host != "10.0.0.5:8443" || r.Origins[0].Name != "main" ||
		len(r.Origins[0].TLS.Pin) != 32 || r.Origins[0].TLS.ServerName != "" || r.Origins[1].TLS.ServerName != "tomcat" {
		t.Errorf("%+v", r)
	}
	if !r.Health.wants(302) || r.Health.wants(204) || r.Health.Timeout != 2*time.Second {
		t.Errorf("%+v", r.Health)
	}
	_, faults := Load([]byte(`rules:
  - origins: [http://10.0.0.1, http://10.0.0.1]
    host: a.example
  - origins:
      - {url: "http://10.0.0.2", colour: red}
  - origin: http://10.0.0.3
    origins: [http://10.0.0.4]
  - origin: http://10.0.0.5
    balance: failover
    health: {timeout: 2h, status: [99]}
  - origins: [{url: "http://10.0.0.6", name: No}, ftp://x]
    balance: maybe
`))
	text := errors.Join(faults...).Error()
	for _, want := range []string{
		"line 2: origin \"http://10.0.0.1\" stands in the list twice", "line 5: unknown key colour", "line 6: a rule has an origin or a list",
		"line 9: balance belongs to a list", "line 10: status", "line 10: timeout", "line 11: name", "line 11: origin \"ftp://x\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"no rules":          "rules: []\n",
		"no catch-all":      "rules:\n  - host: a.example\n    origin: http://10.0.0.1\n",
		"a list":            "- a\n",
		"two documents":     "rules:\n  - service: status:404\n---\nrules:\n  - service: status:404\n",
		"an alias":          "rules:\n  - &a\n    service: status:404\n",
		"not YAML":          "rules: [\n",
		"text":              "rules: hello\n",
		"nothing in a rule": "rules:\n  - {}\n",
	} {
		if rules, faults := Load([]byte(text)); len(faults) == 0 || rules != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCAFileAndPinLetTheOriginIn(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	pin, err := PrintPin(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if other := pinOf(&x509.Certificate{}); pin == other || !strings.HasPrefix(pin, "sha256:") {
		t.Fatalf("pin %q", pin)
	}
	wrong := "sha256:" + strings.Repeat("A", 43)
	for _, c := range []struct {
		name, tls string
		healthy   bool
	}{
		{"nothing", "", false},
		{"ca_file", "ca_file: " + file, true},
		{"ca_file, other name", "ca_file: " + file + ", server_name: other.test", false},
		{"ca_file, listed name", "ca_file: " + file + ", server_name: example.com", true},
		{"pin", `pin_sha256: "` + pin + `"`, true},
		{"wrong pin", `pin_sha256: "` + wrong + `"`, false},
		{"both", "ca_file: " + file + `, pin_sha256: "` + pin + `"`, true},
		{"ca_file and wrong pin", "ca_file: " + file + `, pin_sha256: "` + wrong + `"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := New(Config{Rules: load(t, "rules:\n  - origin: "+s.URL+"\n    tls: {"+c.tls+"}\n")})
			defer in.Close()
			in.current.Load().origins[0].check(t.Context())
			if h := in.Health()[0]; h.Healthy != c.healthy || !c.healthy && h.Problem != "E-ORIGIN-TLS" {
				t.Errorf("%+v", h)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("rules:\n  - host: a.example\n    origin: https://10.0.0.1\n    tls: {pin_sha256: x}\n  - service: status:404\n"))
	f.Add([]byte("rules: [{origin: http://a, preset: oscar, context: [/a, b]}]"))
	f.Add([]byte("rules: [{origins: [http://a, {url: https://b, name: c, tls: {ca_file: x}}], balance: spread, health: {status: [200]}}]"))
	f.Add([]byte("? [a]\n: &b {<<: *b}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, faults := Load(text)
		if (rules == nil) == (len(faults) == 0) {
			t.Fatal("want rules or faults")
		}
		if rules == nil {
			return
		}
		if r, _ := rules.Match("a.example", "/x"); r == nil || r.Origin == nil && r.Status < 400 {
			t.Fatalf("no way on: %+v", r)
		}
	})
}
