package edgetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

const companionHost = "companion.maple.localhost"

// waiting is a world with OSCAR on a Tomcat, short time-outs in its rule, and a companion on another origin.
type waiting struct {
	*edgetest.World
	t     *testing.T
	token string
}

func waitingWorld(t *testing.T, tomcat *edgetest.Tomcat, timeouts string) *waiting {
	t.Helper()
	companion := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "companion") }))
	t.Cleanup(companion.Close)
	w := &waiting{t: t, World: edgetest.Start(t, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin, NoConnector: true})}
	rules := fmt.Sprintf("rules:\n  - host: %s\n    origins: [{url: %q, name: oscar, tls: {pin_sha256: %q}}]\n%s  - host: %s\n    origin: %s\n  - status: 404\n",
		edgetest.AppHost, tomcat.URL, tomcat.Pin, timeouts, companionHost, companion.URL)
	if err := os.WriteFile(filepath.Join(w.Dir, "ingress.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Admin("app", "access", regexp.MustCompile(`app_[0-9a-f-]+`).FindString(w.Admin("app", "list")), "--allow-service", "lab")
	w.Admin("app", "create", "--host", companionHost, "--site", "main", "--allow-service", "lab")
	w.token = w.Admin("token", "mint", "lab")
	w.Connector.Start()
	t.Cleanup(w.Connector.Stop)
	w.WaitForLink()
	return w
}

// get asks as a program does; an answer that is not there within 8 s counts as a hang.
func (w *waiting) get(url string) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 8*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Sallyport-Access-Token", w.token)
	resp, err := w.Visitor().Client.Do(req)
	if err != nil {
		return 0, "", err
	}
	text, err = edgetest.ReadAll(resp)
	return resp.StatusCode, text, err
}

// told asks for a page of OSCAR and returns the code of the answer, which has to say words and to have a request id.
func (w *waiting) told(path, words string) string {
	w.t.Helper()
	_, text, err := w.get(w.URL(path))
	var answer map[string]string
	if err != nil || json.Unmarshal([]byte(text), &answer) != nil || len(answer["request_id"]) != 26 || !strings.Contains(answer["message"], words) {
		w.t.Fatalf("%v, %.300s: want an answer with a request id that says %q", err, text, words)
	}
	return answer["error"]
}

func (w *waiting) serves(url string) {
	w.t.Helper()
	w.Wait(url+" to be served", func() error {
		status, text, err := w.get(url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %.200q", status, text)
		}
		return err
	})
}

// A Tomcat that hangs takes connections and says nothing: everybody is told so, soon at once, and nobody else is kept waiting.
func TestAHungOscarIsSaidAndSparedUntilItAnswersAgain(t *testing.T) {
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{Own: true})
	w := waitingWorld(t, tomcat, "    health: {path: /oscar/wire/probe, interval: 1s, timeout: 1s}\n    timeouts: {dial: 1s, tls: 1s, response_header: 1s}\n")
	w.serves(w.URL("/oscar/echo"))
	tomcat.Suspend(t)
	if code := w.told("/oscar/echo", "The clinic's OSCAR is not answering"); code != "E-ORIGIN-TIMEOUT" && code != "E-ORIGIN-REFUSED" {
		t.Errorf("a hung Tomcat is %s", code)
	}
	w.Wait("the operator's list to say that OSCAR hangs", func() error {
		out, err := w.Try("connector", "list")
		if err == nil && !strings.Contains(out, "oscar: timeout") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	w.Wait("the circuit to open", func() error {
		began := time.Now()
		code := w.told("/oscar/echo", "The clinic's OSCAR is not answering")
		if took := time.Since(began); code != "E-ORIGIN-REFUSED" || took > 700*time.Millisecond {
			return fmt.Errorf("%s after %s", code, took)
		}
		return nil
	})
	if status, text, err := w.get(w.HostURL(companionHost, "/")); err != nil || status != http.StatusOK || text != "companion" {
		t.Errorf("the companion suffers too: %v, %d %.200q", err, status, text)
	}
	tomcat.Resume(t)
	w.serves(w.URL("/oscar/echo"))
}
