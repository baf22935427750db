package edgetest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// Not one request fails while the edge is replaced again and again under load: over HTTP/1.1 and HTTP/2, reads and writes,
// with links over QUIC and over WebSocket. Nobody tries anything twice.
func TestNoRequestFailsWhileTheEdgeIsReplaced(t *testing.T) {
	for name, noQUIC := range map[string]bool{"quic": false, "websocket": true} {
		t.Run(name, func(t *testing.T) {
			origin := httptest.NewServer(edgetest.StandIn())
			t.Cleanup(origin.Close)
			w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoQUIC: noQUIC})
			one := w.SignIn()
			l := newLoad(t, w, one)
			for range replacements() {
				l.more(20) // it was at work before, and is at work after
				old := w.Edge
				w.Edge = old.Successor()
				l.more(50)
				select {
				case <-old.Ended():
				case <-time.After(45 * time.Second):
					t.Fatal("the old edge does not end")
				}
				if code := old.ExitCode(); code != 0 {
					t.Errorf("the old edge ended with %d", code)
				}
			}
			l.end()
		})
	}
}

// replacements is 3, or what SALLYPORT_REPLACEMENTS says.
func replacements() int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_REPLACEMENTS")); err == nil {
		return n
	}
	return 3
}

// load is what several people do at once until it is ended.
type load struct {
	t    *testing.T
	stop context.CancelFunc
	all  sync.WaitGroup
	done atomic.Int64
}

func newLoad(t *testing.T, w *edgetest.World, as *edgetest.Visitor) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{t: t, stop: stop}
	for _, http1 := range []bool{true, false} {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: w.Roots}, ForceAttemptHTTP2: !http1, DisableCompression: true, MaxIdleConnsPerHost: 4,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, w.EdgeAddr())
			},
		}
		client := &http.Client{Transport: transport, Jar: as.Client.Jar}
		t.Cleanup(transport.CloseIdleConnections)
		for worker := range 4 {
			l.all.Go(func() { l.work(ctx, client, w, worker) })
		}
	}
	t.Cleanup(func() { stop(); l.all.Wait() })
	return l
}

// work reads and writes in turn; a body's reader is hidden, so that net/http cannot send it twice.
func (l *load) work(ctx context.Context, client *http.Client, w *edgetest.World, worker int) {
	body := bytes.Repeat([]byte{byte('a' + worker)}, 20<<10)
	for n := 0; ctx.Err() == nil; n++ {
		method, sent := http.MethodGet, io.Reader(nil)
		if n%2 == worker%2 {
			method, sent = http.MethodPost, struct{ io.Reader }{bytes.NewReader(body)}
		}
		if err := l.once(client, w, method, sent); err != nil {
			l.t.Errorf("%s: %v", method, err)
			return
		}
		l.done.Add(1)
	}
}

func (l *load) once(client *http.Client, w *edgetest.World, method string, body io.Reader) error {
	req, err := http.NewRequest(method, w.URL("/oscar/echo"), body)
	if err != nil {
		return err
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return err
}

// more waits until n more requests were answered.
func (l *load) more(n int64) {
	l.t.Helper()
	until := l.done.Load() + n
	edgetest.Eventually(l.t, "requests to be answered", func() error {
		if l.t.Failed() {
			l.t.FailNow()
		}
		if now := l.done.Load(); now < until {
			return fmt.Errorf("%d of %d", now, until)
		}
		return nil
	})
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
	l.t.Logf("%d requests", l.done.Load())
}

// edge restart does the same with a process that the running edge starts itself.
func TestRestartCommand(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL})
	l := newLoad(t, w, w.SignIn())
	l.more(20)
	w.Admin("restart")
	found := regexp.MustCompile(`"successor":(\d+)`).FindStringSubmatch(w.Edge.Log())
	if found == nil {
		t.Fatal("no successor in the log")
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGTERM) })
	l.more(50)
	select {
	case <-w.Edge.Ended():
	case <-time.After(45 * time.Second):
		t.Fatal("the old edge does not end")
	}
	l.end()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the successor: %v", err)
	}
}

// What is open in an edge that was replaced goes on there, and a revocation, which the new one is told of, reaches it in time.
func TestRevocationReachesTheEdgeThatWasReplaced(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL})
	d := atWork(t, w)
	o := d.openBoth()
	old := w.Edge
	w.Edge = old.Successor()
	select {
	case err := <-o.download:
		t.Fatalf("the download ended with the hand-over: %v", err)
	case err := <-o.socket:
		t.Fatalf("the WebSocket ended with the hand-over: %v", err)
	case <-old.Ended():
		t.Fatal("the old edge ended in the middle of a download")
	default:
	}
	w.Admin("session", "revoke", regexp.MustCompile(`ses_[0-9a-f-]+`).FindString(w.Admin("session", "list")))
	o.mustEnd(t)
}
