package edgetest_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// When something is down, the page says whose side it is on and what to do, and a script gets the same as JSON.
func TestWhatIsDownIsSaid(t *testing.T) {
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{Own: true})
	w := edgetest.Start(t, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin})
	b := edgetest.StartBrowser(t, filepath.Join(w.Dir, "edge", "ca", "ca.pem"), 390, 844)
	signInWithBrowser(t, w, b)
	d := atWork(t, w)
	for _, c := range []struct {
		name, code, words string
		status            int
		do                func()
	}{
		{"the application", "E-ORIGIN-REFUSED", "The clinic's OSCAR is not answering", http.StatusBadGateway, func() { tomcat.Stop(t) }},
		{"the connector", "E-TUNNEL-DOWN", "The clinic cannot be reached", http.StatusServiceUnavailable, func() { w.Connector.Stop() }},
	} {
		c.do()
		var page string
		inBrowser(t, b, c.name, chromedp.Navigate(w.URL("/oscar/index.jsp")), chromedp.WaitVisible(`section.card`), chromedp.Text(`body`, &page))
		b.Screenshot(t, "down-"+c.code)
		if !strings.Contains(page, c.words) || !strings.Contains(page, c.code) {
			t.Errorf("%s down: the page says\n%s", c.name, page)
		}
		resp, err := d.Fetch(d.ctx(), http.MethodGet, w.URL("/oscar/index.jsp"), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := edgetest.ReadAll(resp)
		var answer map[string]string
		if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != c.status || answer["error"] != c.code || len(answer["request_id"]) != 26 {
			t.Errorf("%s down: a script gets %s %s", c.name, resp.Status, text)
		}
	}
}
