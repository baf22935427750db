package edgetest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// overTCP leaves UDP out, which these firewalls do not look into.
const overTCP = "transport: websocket\n"

// A clinic behind a firewall that opens TLS enrols and works, and the firewall, which reads all that it can, reads nothing of it.
func TestThroughAFirewallThatOpensTLS(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	f := edgetest.StartFirewall(t, edgetest.FirewallOptions{OldTLS: true})
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoQUIC: true, ConnectorToo: overTCP + f.Settings()})
	d := atWork(t, w)
	note := fmt.Sprintf("BP 120/80, seen %d", rand.Uint64())
	d.submit("/oscar/CaseManagementEntry.do", url.Values{"method": {"save"}, "demographicNo": {"1"}, "caseNote_note": {note}})
	if chart := d.open("/oscar/casemgmt/forward.jsp?demographicNo=1"); !strings.Contains(chart, note) {
		t.Errorf("the saved note is not in the chart:\n%.2000s", chart)
	}
	if got, want, err := d.upload(3 << 20); err != nil || got != want {
		t.Errorf("upload: the origin has %s, sent %s (%v)", got, want, err)
	}
	if got, want := d.download("bytes=3000000"); got != want {
		t.Errorf("download: %s, want %s", got, want)
	}
	ws, err := dialEcho(d.ctx(), d.Visitor, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(d.ctx(), websocket.MessageText, []byte(note)); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ws.Read(d.ctx()); err != nil || string(text) != note {
		t.Errorf("a browser's WebSocket brought %q, %v", text, err)
	}
	_ = ws.CloseNow()
	saysFirewall(t, w)
	readsNothing(t, f, note, "dr.lee", "JSESSIONID", "/oscar/", "Day sheet", "/.sallyport/tunnel")
}

// readsNothing checks that a firewall opened what it could, and read nothing of secrets.
func readsNothing(t *testing.T, f *edgetest.Firewall, secrets ...string) {
	t.Helper()
	read := f.Read()
	if !strings.Contains(read, "GET /.sallyport/inside HTTP/1.1\r\nHost: edge.localhost:") || !strings.Contains(read, "101 Switching Protocols") {
		t.Errorf("the firewall opened nothing: %.300q", read)
	}
	for _, secret := range append(secrets, "public_key", "root_key", "/.sallyport/enroll", "eyJhbGci") {
		if at := strings.Index(read, secret); at >= 0 {
			t.Errorf("the firewall reads %q: %.300q", secret, read[max(0, at-100):])
		}
	}
}

// saysFirewall checks that a clinic is told what its links go through.
func saysFirewall(t *testing.T, w *edgetest.World) {
	t.Helper()
	at := strings.TrimPrefix(w.Loopback(w.Connector), "http://")
	w.Wait("both lanes", func() error {
		out, _ := w.TryConnector("ready", "--json", "--loopback", at)
		if n := strings.Count(out, `"tlsOpenedBy":"CN=`+edgetest.FirewallName+`"`); n < 2 {
			return fmt.Errorf("%d links through it in %s", n, out)
		}
		return nil
	})
	for command, want := range map[string]string{
		"ready":  `linked over websocket, TCP through a firewall that opens TLS`,
		"doctor": `(?s)ok +certificate +trusted.*seen inside, through a firewall that opens TLS.*Fortress.*ok +link +up over websocket, TCP through a firewall`,
		"diag":   `(?s)fast lane.*through a firewall that opens TLS \("CN=Fortress.*bulk lane.*through a firewall that opens TLS`,
	} {
		args := []string{command, "--loopback", at}
		if command == "diag" {
			args = append(args, "--output", filepath.Join(t.TempDir(), "bundle.tar.gz"))
		}
		if out, _ := w.TryConnector(args...); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("connector %s:\n%s", command, out)
		}
	}
	resp, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(text, `sallyport_link_tls_opened{lane="bulk"} 1`) {
		t.Errorf("no such metric, %v", err)
	}
	if !strings.Contains(w.Connector.Log(), `"tls_opened_by":"CN=`+edgetest.FirewallName) {
		t.Error("the log does not say it")
	}
}

// What a firewall must not get by with: each of these is refused, in words that say what to do, and costs the invitation nothing.
func TestFirewallsThatAreRefused(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	opens, hostile := edgetest.StartFirewall(t, edgetest.FirewallOptions{}), edgetest.StartFirewall(t, edgetest.FirewallOptions{Hostile: true})
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoConnector: true})
	line := strings.Fields(w.Admin("connector", "invite"))
	var code string
	for i, word := range line {
		if word == "--code" {
			code = line[i+1]
		}
	}
	state := filepath.Join(w.Dir, "another")
	enrol := func(args ...string) (string, error) {
		return w.TryConnector(append(append(line[1:len(line):len(line)], "--state-dir", state), args...)...)
	}
	refused := func(what, out string, err error, want ...string) {
		t.Helper()
		for _, words := range want {
			if err == nil || !strings.Contains(out, words) {
				t.Errorf("%s: no %q, %v:\n%s", what, words, err, out)
			}
		}
	}

	out, err := enrol("--proxy", opens.URL)
	refused("enrolment without the key", out, err, edgetest.FirewallName, "tls_inspection")
	bare := []string{line[1], line[2], "--code", code, "--state-dir", state, "--proxy", opens.URL, "--tls-inspection", "--ca-file", opens.CAFile}
	out, err = w.TryConnector(bare...)
	refused("enrolment without the pin", out, err, "--ca sha256:")
	out, err = enrol("--proxy", opens.URL, "--tls-inspection")
	refused("enrolment without the firewall's CA", out, err, "outside", edgetest.FirewallName, "ca_file")
	out, err = enrol("--proxy", hostile.URL, "--tls-inspection", "--ca-file", hostile.CAFile)
	refused("enrolment through one that goes inside", out, err, "inside the TLS that a firewall opens", edgetest.FirewallName)
	for _, f := range []*edgetest.Firewall{opens, hostile} {
		if strings.Contains(f.Read(), code) {
			t.Error("a firewall has read the code")
		}
	}
	if out, err := enrol("--proxy", opens.URL, "--tls-inspection", "--ca-file", opens.CAFile); err != nil {
		t.Errorf("the code is spent, or no good: %v\n%s", err, out)
	}
	readsNothing(t, opens, code)

	out, err = w.TryConnector("doctor", "--transport", "websocket", "--proxy", opens.URL)
	refused("the doctor without the key", out, err, edgetest.FirewallName, "edge.localhost exempted", "tls_inspection: true")
	run(t, w, overTCP+"proxy: "+opens.URL+"\n", nil, edgetest.FirewallName, "tls_inspection")
	run(t, w, overTCP+hostile.Settings(), nil, "TLS inside", edgetest.FirewallName)
	if read := hostile.Read(); read != "" {
		t.Errorf("a hostile firewall opened the TLS inside: %.300q", read)
	}
	out, err = w.TryConnector("doctor", "--transport", "websocket", "--proxy", hostile.URL, "--tls-inspection", "--ca-file", hostile.CAFile)
	refused("the doctor behind one that goes inside", out, err, "somebody opens that one too")

	// Even one whose CA this machine trusts for the edge itself, and that so gets inside, opens no link: what connector and
	// edge prove to each other is for one TLS alone.
	ca, err := os.ReadFile(hostile.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w, overTCP+hostile.Settings(), func(identity map[string]any) { identity["ca_pem"] = string(ca) }, "this edge does not know you")
	if !strings.Contains(hostile.Read(), "GET /.sallyport/tunnel") {
		t.Error("that one did not get inside, so that nothing was shown")
	}

	// Beside UDP, which gets past it, what goes over TCP goes inside.
	run(t, w, opens.Settings(), nil, `"lane":"bulk","transport":"websocket","tls_opened_by":"CN=`+edgetest.FirewallName)

	// An edge with a certificate of a public CA: no pin, and the CA is among the system's.
	t.Setenv("SSL_CERT_FILE", filepath.Join(w.Dir, "edge", "ca", "ca.pem"))
	run(t, w, overTCP+opens.Settings(), func(map[string]any) {}, `"tls_opened_by":"CN=`+edgetest.FirewallName)
	run(t, w, overTCP+hostile.Settings(), func(map[string]any) {}, "TLS inside")
}

// run runs the enrolled connector with more of a configuration, without the pin if identity is changed, until it says all of want.
func run(t *testing.T, w *edgetest.World, more string, change func(identity map[string]any), want ...string) {
	t.Helper()
	edit := func(name string, change func(text []byte) []byte) (undo func()) {
		path := filepath.Join(w.Dir, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.WriteFile(path, text, 0o600) }
	}
	defer edit("connector.yaml", func(text []byte) []byte { return append(text, more...) })()
	if change != nil {
		defer edit("connector/identity.json", func(text []byte) []byte {
			var identity map[string]any
			if err := json.Unmarshal(text, &identity); err != nil {
				t.Fatal(err)
			}
			delete(identity, "ca_pin")
			change(identity)
			text, err := json.Marshal(identity)
			if err != nil {
				t.Fatal(err)
			}
			return text
		})()
	}
	before := len(w.Connector.Log())
	w.Connector.Start()
	defer w.Connector.Stop()
	w.Wait(strings.Join(want, ", "), func() error {
		log := w.Connector.Log()[before:]
		for _, words := range want {
			if !strings.Contains(log, words) {
				return fmt.Errorf("no %q in\n%s", words, log)
			}
		}
		return nil
	})
}
