package edgetest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// ruled is a world whose connector begins without a file, with two origins that say their names.
type ruled struct {
	*edgetest.World
	t     *testing.T
	token string
	one   *httptest.Server
	two   *httptest.Server
	// entered tells that /slow has reached an origin, which answers once it may leave.
	entered, leave chan struct{}
}

func ruledWorld(t *testing.T) *ruled {
	t.Helper()
	r := &ruled{t: t, entered: make(chan struct{}, 8), leave: make(chan struct{})}
	named := func(name string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/slow" {
				r.entered <- struct{}{}
				<-r.leave
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s
	}
	r.one, r.two = named("one"), named("two")
	r.World = edgetest.Start(t, edgetest.Options{Origin: r.one.URL, Preset: "none", NoConnector: true})
	if err := os.Remove(r.file()); err != nil {
		t.Fatal(err)
	}
	app := regexp.MustCompile(`app_[0-9a-f-]+`).FindString(r.Admin("app", "list"))
	r.Admin("app", "access", app, "--allow-service", "lab")
	r.token = r.Admin("token", "mint", "lab")
	r.Connector.Start()
	t.Cleanup(r.Connector.Stop)
	r.WaitForLink()
	return r
}

func (r *ruled) file() string { return filepath.Join(r.Dir, "ingress.yaml") }

// rules writes rules for an origin under a name and returns its path. It is put in place by a rename, as editors do.
func (r *ruled) rules(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.Dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func toOrigin(url string) string {
	return "rules:\n  - host: " + edgetest.AppHost + "\n    origin: " + url + "\n  - status: 404\n"
}

func (r *ruled) get(path string) (int, string, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.URL(path), nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Sallyport-Access-Token", r.token)
	resp, err := r.Visitor().Client.Do(req)
	if err != nil {
		return 0, "", err
	}
	text, err := edgetest.ReadAll(resp)
	return resp.StatusCode, text, err
}

// serves waits until an origin answers.
func (r *ruled) serves(name string) {
	r.t.Helper()
	r.Wait("origin "+name+" to answer", func() error {
		status, text, err := r.get("/")
		if err == nil && (status != http.StatusOK || text != name) {
			err = fmt.Errorf("%d %.80q", status, text)
		}
		return err
	})
}

// says waits until `edge ingress status` contains words.
func (r *ruled) says(words ...string) {
	r.t.Helper()
	r.Wait("edge ingress status to say "+strings.Join(words, ", "), func() error {
		out, err := r.Try("ingress", "status")
		for _, w := range words {
			if err == nil && !strings.Contains(out, w) {
				err = fmt.Errorf("it lacks %q: %s", w, out)
			}
		}
		return err
	})
}

// ready waits until the connector's /ready is as wanted.
func (r *ruled) ready(what string, ok func(connector.Status) bool) {
	r.t.Helper()
	r.Wait("/ready to tell of "+what, func() error {
		resp, err := http.Get(r.Loopback(r.Connector) + "/ready")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		var s connector.Status
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			return err
		}
		if !ok(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestRulesKeptAtTheEdge(t *testing.T) {
	r := ruledWorld(t)
	r.ready("the lack of rules", func(s connector.Status) bool {
		return s.Status == connector.StatusNoRules && s.Ingress.From == "none"
	})
	if status, _, err := r.get("/"); err != nil || status != http.StatusNotFound {
		t.Errorf("without rules: %d, %v", status, err)
	}
	r.says("unknown", "nothing is kept here")

	r.Admin("ingress", "set", r.rules("one.yaml", toOrigin(r.one.URL)))
	r.serves("one")
	r.says("version 1", "accepted")

	// What runs while the rules are swapped ends as it began.
	slow := make(chan error, 1)
	go func() {
		status, text, err := r.get("/slow")
		if err == nil && (status != http.StatusOK || text != "one") {
			err = fmt.Errorf("%d %q", status, text)
		}
		slow <- err
	}()
	<-r.entered
	r.Admin("ingress", "set", r.rules("two.yaml", toOrigin(r.two.URL)))
	r.serves("two")
	r.says("version 2", "accepted")
	close(r.leave)
	if err := <-slow; err != nil {
		t.Errorf("a request that ran while the rules were swapped: %v", err)
	}

	// The edge takes what only the connector can judge; the connector refuses, says why, and goes on as before.
	r.Admin("ingress", "set", r.rules("bad.yaml", toOrigin("http://10.255.255.1:8080")))
	r.says("version 2", "NEWEST IS 3", "refused", "ingress_allow does not permit")
	r.serves("two")
	r.ready("the refused rules", func(s connector.Status) bool {
		return s.Status == connector.StatusReady && s.Ingress.Version == 2 && strings.Contains(s.Ingress.Problem, "version 3")
	})

	// The edge is away, and the connector starts again: it still has its rules.
	r.Edge.Stop()
	r.Connector.Stop()
	r.Connector.Start()
	r.ready("its remembered rules", func(s connector.Status) bool {
		return s.Status == connector.StatusNoLink && s.Ingress.From == "edge" && s.Ingress.Version == 2
	})
	r.Edge.Start()
	r.serves("two")
	r.says("version 2", "refused", "ingress_allow")
}

func TestALocalFileWinsAndIsReadAgain(t *testing.T) {
	r := ruledWorld(t)
	r.Admin("ingress", "set", r.rules("one.yaml", toOrigin(r.one.URL)))
	r.serves("one")

	// A file comes, and wins. Nobody signals: it is noticed.
	r.rules("ingress.yaml", toOrigin(r.two.URL))
	r.serves("two")
	r.says("its own file")
	r.Admin("ingress", "set", r.rules("one.yaml", toOrigin(r.one.URL)+"# again\n"))
	r.says("NEWEST IS 2", "takes its rules from its own file")
	r.serves("two")

	// A broken one changes nothing, and is told of.
	r.rules("ingress.yaml", "rules:\n  - orign: "+r.one.URL+"\n")
	r.Connector.Signal(syscall.SIGHUP)
	r.ready("the broken file", func(s connector.Status) bool {
		return s.Status == connector.StatusReady && s.Ingress.From == "file" && strings.Contains(s.Ingress.Problem, "unknown key orign")
	})
	r.serves("two")
	resp, err := http.Get(r.Loopback(r.Connector) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := edgetest.ReadAll(resp); err != nil || !strings.Contains(text, "\nsallyport_ingress_refused 1\n") {
		t.Errorf("the metric does not tell of the broken file: %v", err)
	}
	if !strings.Contains(r.Connector.Log(), "ingress rules refused") {
		t.Error("the log does not tell of the broken file")
	}

	// A good one at SIGHUP.
	r.rules("ingress.yaml", toOrigin(r.one.URL))
	r.Connector.Signal(syscall.SIGHUP)
	r.serves("one")
	r.ready("the good file", func(s connector.Status) bool { return s.Ingress.Problem == "" })

	// It goes: the newest rules of the edge take over, and the edge knows.
	r.Admin("ingress", "set", r.rules("one.yaml", toOrigin(r.two.URL)))
	if err := os.Remove(filepath.Join(r.Dir, "ingress.yaml")); err != nil {
		t.Fatal(err)
	}
	r.serves("two")
	r.says("version 3")
}
