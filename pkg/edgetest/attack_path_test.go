package edgetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

func withPatience(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), Patience)
}

// A target with more than one reading is refused whole: it is not tidied up, not redirected to what it may have meant, and
// the application never hears of it. Attack cases A1 to A11 and A13.
func TestTargetsWithTwoReadings(t *testing.T) {
	k := newKnocker(t, Options{})
	targets := []string{
		"/oscar/..;/companion/x", "/oscar/..;x=y/companion/x", "/oscar/%2e%2e;/companion/x", "/oscar/.;/..;/companion/x",
		"/oscar/admin;x/x.jsp", "/oscar/;/admin/x.jsp", "/oscar/foo/..;/admin/x.jsp", "/oscar;x=1/index.jsp", "/oscar/index.jsp;a=b",
		"/oscar/../companion/x", "/oscar/./index.jsp", "//oscar/index.jsp", "/oscar//index.jsp", "/./oscar/", "/oscar/..", "/..",
		"/oscar/%2e%2e/companion/x", "/oscar/a%2fb", "/oscar/a%2Fb", "/oscar/a%5cb", `/oscar/a\b`, `/oscar\index.jsp`,
		"/oscar/%252e%252e/companion/x", "/oscar/a%25b", "/oscar/a%00", "/oscar/a%0d%0aX", "/oscar/%zz", "/oscar/%", "/oscar/%u002e",
		"/oscar/%c0%ae%c0%ae/x", "/oscar/a%ff", "/oscar/a%ef%bf%bd", "/oscar/index.jsp;jsessionid=../x", "/oscar/a|b", "/oscar/a^b",
		"/oscar/echo#/public", "/oscar/a\"b", "/oscar/a<b", "/oscar/a`b", "/oscar/a{b",
		"/" + strings.Repeat("a", 9<<10), "/oscar/echo?" + strings.Repeat("a=b&", 3<<10),
	}
	t.Run("HTTP1", func(t *testing.T) {
		k := k.on(t)
		odd := append([]string{
			"*", "oscar/index.jsp", AppHost + ":443", "https://" + AppHost + "/oscar/index.jsp", "https://oscar.birch.localhost/oscar/index.jsp",
			"http://127.0.0.1:8080/oscar/index.jsp", "HTTPS:/oscar/index.jsp", "?x", "", "/oscar /index.jsp", "/oscar/\tindex.jsp", "/oscar/\x00", "/oscar/\xe9",
		}, targets...)
		k.untouched(func() {
			for _, target := range odd {
				a, err := k.send(k.get(target, ""))
				if err != nil {
					t.Errorf("%.60q: no answer: %v", target, err)
				} else if !a.refused() || a.header.Get("Location") != "" {
					t.Errorf("%.60q: %d %s", target, a.status, a.header.Get("Location"))
				}
			}
			a, err := k.send(k.with("OPTIONS", "*", "", ""))
			if err != nil || !a.refused() {
				t.Errorf("OPTIONS *: %d, %v", a.status, err)
			}
		})
	})
	t.Run("HTTP2", func(t *testing.T) {
		k := k.on(t)
		k.untouched(func() {
			c := k.wire2()
			for _, target := range append([]string{"*", "oscar", "", "https://" + AppHost + "/oscar/"}, targets...) {
				a, err := c.ask(k.usual(http.MethodGet, target))
				if err != nil { // net/http resets what it cannot parse
					c = k.wire2()
				} else if !a.refused() || a.header.Get("Location") != "" {
					t.Errorf("%.60q: %d %s", target, a.status, a.header.Get("Location"))
				}
			}
		})
	})
	t.Run("many parameters", func(t *testing.T) {
		k := k.on(t)
		k.untouched(func() {
			if a := k.must(k.get("/oscar/echo?"+strings.Repeat("a&", 10001), "")); a.status != http.StatusRequestURITooLong {
				t.Errorf("10001 parameters: %d", a.status)
			}
		})
	})
	t.Run("whole segments", func(t *testing.T) {
		k := k.on(t)
		k.untouched(func() {
			for _, target := range []string{"/oscarx/echo", "/oscar.bak/x", "/companion/x", "/", "/manager/html", "/OSCAR/echo"} {
				if a := k.must(k.get(target, "")); target != "/" && a.status != http.StatusForbidden {
					t.Errorf("%s: %d", target, a.status)
				}
				if target == "/" {
					continue
				}
				a := k.must(k.get(target, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"))
				if a.status != http.StatusForbidden {
					t.Errorf("an upgrade at %s: %d", target, a.status)
				}
			}
		})
	})
	t.Run("session in the address", func(t *testing.T) {
		k := k.on(t)
		e := k.echo(k.must(k.get("/oscar/echo;jsessionid=0AF9.n1", "Cookie: JSESSIONID=kept\r\n")))
		if e.RequestURI != "/oscar/echo" || !slices.Equal(e.values("cookie"), []string{"JSESSIONID=kept"}) {
			t.Errorf("%s, %q", e.RequestURI, e.values("cookie"))
		}
	})
	t.Run("the query stays outside", func(t *testing.T) {
		k := k.on(t)
		for _, target := range []string{"/oscar/echo%23/x", "/oscar/echo%3f/x"} { // one name each, which only begins like the page's
			if a := k.must(k.get(target, "")); a.status != http.StatusNotFound {
				t.Errorf("%s: %d", target, a.status)
			}
		}
		if a := k.must(k.get("/oscar/html2pdf?x=/oscar/echo", "")); a.status != http.StatusForbidden {
			t.Errorf("a closed page with an open one in its query: %d", a.status)
		}
		for _, query := range []string{"x=/../html2pdf", "/oscar/html2pdf", "a=%2e%2e%2f&b=;c", "?", ""} {
			if e := k.echo(k.must(k.get("/oscar/echo?"+query, ""))); e.RequestURI != "/oscar/echo" || e.QueryString != query {
				t.Errorf("%q: %s ? %s", query, e.RequestURI, e.QueryString)
			}
		}
	})
	t.Run("corpus", func(t *testing.T) { k.on(t).corpus() })
}

// corpus sends what browsers and machine clients send, each to the last one.
func (k *knocker) corpus() {
	text, err := os.ReadFile(filepath.Join(repository(), "testdata", "oscar", "urls.txt"))
	if err != nil {
		k.t.Fatal(err)
	}
	c, n := k.wire1(AppHost), 0
	for raw := range bytes.Lines(text) {
		target := strings.TrimRight(string(raw), "\n")
		if target == "" || target[0] == '#' {
			continue
		}
		n++
		decided, err := urlpath.Parse(target, urlpath.Options{})
		if err != nil {
			k.t.Errorf("%s: %v", target, err)
			continue
		}
		if _, err := fmt.Fprint(c, k.get(target, "X-Mapped: 1\r\n")); err != nil {
			k.t.Fatal(err)
		}
		a, err := c.read(http.MethodGet)
		if err != nil {
			k.t.Fatalf("%s: %v", target, err)
		}
		if fault := disagree(decided, mappedIn(k.t, a)); fault != "" || a.status >= 400 {
			k.t.Errorf("%s: %d: %s", target, a.status, fault)
		}
	}
	if n < 300 {
		k.t.Errorf("only %d targets", n)
	}
}

// mappedIn reads what Tomcat made of a request out of an answer.
func mappedIn(t testing.TB, a answer) mapped {
	t.Helper()
	m := mapped{status: a.status, location: a.header.Get("Location")}
	if a.status == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &m); err != nil {
			t.Errorf("%v in %.200s", err, a.body)
		}
	}
	return m
}

// unread is what Tomcat's log shows of a request that it did not take in.
const unread = "-"

// What the edge decided on, over either protocol, is what the connector sent and what Tomcat mapped, and what the edge did
// not accept did not arrive. Attack case A12 for the whole way.
func TestRandomTargetsHaveOneReadingOnTheWholeWay(t *testing.T) {
	n := fromEnvironment(t, "SALLYPORT_TARGETS", 5000)
	seed := uint64(fromEnvironment(t, "SALLYPORT_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("%d targets, SALLYPORT_SEED=%d", n, seed)
	// Without the preset, so that every application of the Tomcat can be reached and an escape shows.
	k := newKnocker(t, Options{Preset: "none"})
	const parallel = 6
	var (
		mu       sync.Mutex
		expected []string
		faults   int
		wg       sync.WaitGroup
	)
	report := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if faults++; faults <= 20 {
			t.Errorf(format, args...)
		}
	}
	arrived := k.reached(func() {
		for worker := range parallel {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(worker)))
				ask := k.asker(worker%2 == 1)
				for range n / parallel {
					raw := randomTarget(random)
					target, parseErr := urlpath.Parse(raw, urlpath.Options{})
					a, err := ask(raw)
					switch {
					case parseErr != nil && err == nil && !a.refused():
						report("%q, which cannot be read in one way only, was answered with %d", raw, a.status)
					case parseErr == nil && err != nil:
						report("%q: %v", raw, err)
					case parseErr == nil:
						if fault := disagree(target, mappedIn(t, a)); fault != "" {
							report("%q, decided on as %q: %s", raw, target, fault)
						}
						mu.Lock()
						if a.status == http.StatusBadRequest { // Tomcat's own refusal of the query; its log then names nothing
							expected = append(expected, unread)
						} else {
							expected = append(expected, target.String())
						}
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
	})
	slices.Sort(expected)
	if diff := cmp.Diff(expected, arrived); diff != "" {
		t.Errorf("accepted and arrived differ (-accepted +arrived):\n%.4000s", diff)
	}
	t.Logf("%d accepted, %d faults", len(expected), faults)
	if len(expected) < n/10 {
		t.Errorf("only %d of %d targets were accepted: the comparison says too little", len(expected), n)
	}
}

// asker returns how to send targets over one protocol, on a connection that is opened anew when it was closed.
func (k *knocker) asker(two bool) func(target string) (answer, error) {
	if two {
		var c *wire2
		return func(target string) (answer, error) {
			if c == nil {
				c = k.wire2()
			}
			_ = c.conn.SetDeadline(time.Now().Add(Patience))
			a, err := c.ask(k.usual(http.MethodGet, target, [2]string{"x-mapped", "1"}))
			if err != nil {
				_ = c.conn.Close()
				c = nil
			}
			return a, err
		}
	}
	var c *wire1
	return func(target string) (answer, error) {
		if c == nil {
			c = k.wire1(AppHost)
		}
		_ = c.SetDeadline(time.Now().Add(Patience))
		_, err := fmt.Fprint(c, k.get(target, "X-Mapped: 1\r\n"))
		var a answer
		if err == nil {
			a, err = c.read(http.MethodGet)
		}
		if err != nil || a.last {
			_ = c.Close()
			c = nil
		}
		return a, err
	}
}
