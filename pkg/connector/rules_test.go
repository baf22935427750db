package connector

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// ruleWorld is one connector's machine; start is a start of the process.
type ruleWorld struct {
	t   *testing.T
	cfg Config
	*rules
	now *ingress.Rules
}

func newRuleWorld(t *testing.T, from, file string) *ruleWorld {
	t.Helper()
	dir := t.TempDir()
	w := &ruleWorld{t: t, cfg: Config{StateDir: dir, Ingress: filepath.Join(dir, "ingress.yaml"), IngressFrom: from, IngressAllow: []string{"loopback"}}}
	if file != "" {
		w.write(file)
	}
	return w
}

func (w *ruleWorld) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.cfg.Ingress, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *ruleWorld) start() error {
	w.t.Helper()
	w.cfg.Metrics = metric.New()
	r, err := newRules(w.cfg, zap.NewNop())
	if err != nil {
		return err
	}
	w.rules, w.now = r, r.first
	r.attach(func(next *ingress.Rules) { w.now = next })
	return nil
}

// want checks where /ready says that the rules come from, and which origin they lead to ("" for none).
func (w *ruleWorld) want(what string, from string, version uint64, origin, problem string) {
	w.t.Helper()
	s := w.status()
	got := ""
	if o := w.now.All()[0].Origin; o != nil {
		got = o.String()
	}
	if s.From != from || s.Version != version || got != origin || problem == "" && s.Problem != "" || !strings.Contains(s.Problem, problem) {
		w.t.Errorf("%s: %+v, origin %q; want %s %d, %q, problem %q", what, s, got, from, version, origin, problem)
	}
}

func to(origin string) string { return "rules:\n  - origin: " + origin + "\n" }

const (
	fileOrigin = "http://10.0.0.5:8080" // a file may name what it likes
	origin1    = "http://127.0.0.1:8081"
	origin2    = "http://localhost:8082"
)

func TestAFileWinsAndABadOneChangesNothing(t *testing.T) {
	for _, from := range []string{IngressAuto, IngressFile} {
		w := newRuleWorld(t, from, to(fileOrigin))
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		w.want("start", "file", 0, fileOrigin, "")
		if err := w.Configure(3, []byte(to(origin1))); !errors.Is(err, controlclient.ErrOwnFile) {
			t.Errorf("%s: rules of the edge: %v", from, err)
		}
		w.write("rules: [{orign: x}]")
		w.reload()
		w.want("bad file", "file", 0, fileOrigin, "unknown key orign")
		if err := os.Remove(w.cfg.Ingress); err != nil {
			t.Fatal(err)
		}
		w.reload()
		if from == IngressFile {
			w.want("no file any more", "file", 0, fileOrigin, "no such file")
		} else {
			w.want("no file any more", "edge", 3, origin1, "")
		}
		w.write(to("http://10.0.0.6"))
		w.reload()
		w.want("good again", "file", 0, "http://10.0.0.6", "")
		if _, _, own := w.Running(); !own {
			t.Errorf("%s: the edge is not told that the file wins", from)
		}
		w.write("rules: 7")
		if err := w.start(); err == nil {
			t.Errorf("%s: started with a bad file", from)
		}
	}
	if err := newRuleWorld(t, IngressFile, "").start(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("started without the file that was asked for: %v", err)
	}
}

// The file goes while the connector runs: the edge's rules take over, the newest that were good. While there are none, the clinic is
// not cut off: what the file said stays, and the connector says so.
func TestRulesOfTheEdgeTakeOverFromAFileThatGoes(t *testing.T) {
	w := newRuleWorld(t, IngressAuto, to(fileOrigin))
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	gone := func() {
		t.Helper()
		if err := os.Remove(w.cfg.Ingress); err != nil {
			t.Fatal(err)
		}
		w.reload()
		w.reload() // nothing new
	}
	gone()
	w.want("none at the edge", "file", 0, fileOrigin, "is gone, and the edge keeps no rules")
	if version, _, own := w.Running(); version != 0 || own {
		t.Errorf("the edge is told of version %d, own file %t", version, own)
	}
	if err := w.Configure(1, nil); err != nil {
		t.Fatal(err)
	}
	w.want("the edge keeps none", "file", 0, fileOrigin, "is gone")
	if err := w.Configure(2, []byte(to("http://10.0.0.5"))); err == nil {
		t.Error("rules out of bounds are taken")
	}
	w.want("bad ones", "file", 0, fileOrigin, "ingress_allow")
	if err := w.Configure(3, []byte(to(origin1))); err != nil {
		t.Fatal(err)
	}
	w.want("the edge keeps some now", "edge", 3, origin1, "")

	w.write(to(fileOrigin))
	w.reload()
	for version, text := range map[uint64]string{4: to(origin2), 5: "rules: 7"} {
		if err := w.Configure(version, []byte(text)); !errors.Is(err, controlclient.ErrOwnFile) {
			t.Errorf("version %d beside a file: %v", version, err)
		}
	}
	w.want("a file again", "file", 0, fileOrigin, "")
	if err := w.start(); err != nil { // what was remembered is over a start, too
		t.Fatal(err)
	}
	gone()
	w.want("what came meanwhile", "edge", 4, origin2, "")
	if version, digest, own := w.Running(); version != 4 || len(digest) == 0 || own {
		t.Errorf("the edge is told of version %d, own file %t", version, own)
	}
}

func TestRulesOfTheEdgeAreCheckedAndRemembered(t *testing.T) {
	w := newRuleWorld(t, IngressAuto, "")
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.want("nothing yet", "none", 0, "", "")
	if version, digest, own := w.Running(); version != 0 || digest != nil || own {
		t.Errorf("nothing yet: %d %x %t", version, digest, own)
	}
	if err := w.Configure(1, []byte(to(origin1))); err != nil {
		t.Fatal(err)
	}
	w.want("accepted", "edge", 1, origin1, "")
	for text, why := range map[string]string{
		to("http://10.0.0.5"): "ingress_allow",
		"rules:\n  - origin: https://127.0.0.1\n    tls: {ca_file: /etc/passwd}\n": "cannot name files",
		"rules: []": "catch-all",
	} {
		if err := w.Configure(2, []byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", text, err)
		}
		w.want("refused", "edge", 1, origin1, why)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.want("started again without the edge", "edge", 1, origin1, "")
	if err := w.Configure(3, []byte(to(origin2))); err != nil {
		t.Fatal(err)
	}
	w.want("the next good one", "edge", 3, origin2, "")

	w.cfg.IngressAllow = []string{"127.0.0.0/8:8081"}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.want("the clinic narrowed what it allows", "none", 0, "", "ingress_allow")
	if err := w.Configure(4, nil); err != nil {
		t.Fatal(err)
	}
	w.want("the edge keeps none", "none", 4, "", "")
	if err := w.Configure(5, []byte(to(origin1))); err != nil {
		t.Fatal(err)
	}
	w.write(to(fileOrigin))
	w.reload()
	w.want("a file came", "file", 0, fileOrigin, "")
	if err := os.Remove(w.cfg.Ingress); err != nil {
		t.Fatal(err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.want("and went, before a start", "edge", 5, origin1, "")
}

func TestAFileMeansNothingWhereTheEdgeWasChosen(t *testing.T) {
	w := newRuleWorld(t, IngressEdge, to(fileOrigin))
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.reload()
	w.want("start", "none", 0, "", "")
	if err := w.Configure(1, []byte(to(origin1))); err != nil {
		t.Fatal(err)
	}
	w.want("accepted", "edge", 1, origin1, "")
}

// What cannot be remembered is not accepted: after a start the connector would fall behind what it acknowledged. What is
// damaged on the disk is not used.
func TestRememberingIsPartOfAccepting(t *testing.T) {
	w := newRuleWorld(t, IngressAuto, "")
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	if err := w.Configure(1, []byte(to(origin1))); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(w.cfg.StateDir, keptFile)
	w.dir = filepath.Join(w.cfg.StateDir, "gone")
	if err := w.Configure(2, []byte(to(origin2))); err == nil {
		t.Error("accepted what it could not write down")
	}
	w.want("not remembered", "edge", 1, origin1, "version 2")
	if err := os.WriteFile(kept, []byte(`{"version": 1, "yaml": "rul`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.want("damaged", "none", 0, "", "remembered")
}
