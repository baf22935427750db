package edgetest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// load is a clinic at work until it is ended: many people read and write over every version of HTTP, one sends files, one fetches
// them, one has a WebSocket open. Nobody tries anything twice.
type load struct {
	t    *testing.T
	d    doctor
	ctx  context.Context
	stop context.CancelFunc
	all  sync.WaitGroup

	small, large atomic.Int64 // requests that were answered as they should be
	echoes, cuts atomic.Int64 // of the WebSocket
	files        int64        // that more waits for
}

// largeBody is the size of a file whose length nobody declares: its end moves to the bulk lane, and is through within a drain though
// the machine is so busy that this lane gets its least, 32 KiB/s.
const largeBody = 300 << 10

// without is what a load leaves out.
type without struct{ http3, files, socket bool }

func newLoad(t *testing.T, d doctor, no without) *load {
	l := &load{t: t, d: d}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { l.stop(); l.all.Wait() })
	for _, http1 := range []bool{true, false} {
		for worker := range 3 {
			one := l.person(http1)
			l.repeat(&l.small, func(n int) error { return readOrWrite(one, d.w, n+worker, false) })
		}
	}
	if !no.http3 {
		tr := overHTTP3(t, d.w)
		for worker := range 2 {
			one := &edgetest.Visitor{Client: &http.Client{Transport: tr, Jar: d.Client.Jar}}
			l.repeat(&l.small, func(n int) error { return readOrWrite(one, d.w, n+worker, true) })
		}
	}
	if !no.files {
		l.files = 2
		l.exchangeFiles()
	}
	if !no.socket {
		l.all.Go(func() { l.talk(l.person(true)) })
	}
	return l
}

// exchangeFiles has one person send files, and one fetch them.
func (l *load) exchangeFiles() {
	sender, fetcher := doctor{l.person(false), l.t, l.d.w}, l.person(true)
	l.repeat(&l.large, func(int) error {
		got, want, err := sender.upload(largeBody)
		if sender.Unsent(err) {
			got, want, err = sender.upload(largeBody)
		}
		if err == nil && got != want {
			err = fmt.Errorf("the origin has %s, sent %s", got, want)
		}
		return err
	})
	want := edgetest.Backup(largeBody).SHA256()
	l.repeat(&l.large, func(int) error { return fetch(fetcher, l.d.w, want) })
}

// person is another browser of the same doctor.
func (l *load) person(http1 bool) *edgetest.Visitor {
	one := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: l.d.w.EdgeAddr(), Roots: l.d.w.Roots, HTTP1: http1})
	l.t.Cleanup(one.Close)
	one.Client.Jar = l.d.Client.Jar
	return one
}

// pace is the least time between two requests of one person: the machine is to be at work, not overloaded, which the bulk lane
// would yield to.
const pace = 20 * time.Millisecond

// repeat does one thing after the other until the load ends or one fails.
func (l *load) repeat(done *atomic.Int64, once func(n int) error) {
	l.all.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for n := 0; l.ctx.Err() == nil; n++ {
			<-tick.C
			if err := once(n); err != nil {
				l.t.Errorf("%s: request %d: %v", time.Now().UTC().Format(time.StampMilli), n, err)
				return
			}
			done.Add(1)
		}
	})
}

// readOrWrite reads and writes in turn. A body's reader is hidden, so that net/http cannot send it twice; not over HTTP/3, where
// every client does with what the edge says it has not looked at (H3_REQUEST_REJECTED, RFC 9114 §4.1.1).
func readOrWrite(one *edgetest.Visitor, w *edgetest.World, n int, again bool) error {
	method, body := http.MethodGet, io.Reader(nil)
	if n%2 == 0 {
		method, body = http.MethodPost, bytes.NewReader(bytes.Repeat([]byte{byte(n)}, 20<<10))
		if !again {
			body = struct{ io.Reader }{body}
		}
	}
	resp, err := one.Fetch(context.Background(), method, w.URL("/oscar/echo"), body)
	if one.Unsent(err) {
		return readOrWrite(one, w, n, again)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	text, err := edgetest.ReadAll(resp)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s over %s: %.300s", method, resp.Status, resp.Proto, text)
	}
	return err
}

func fetch(one *edgetest.Visitor, w *edgetest.World, want string) error {
	resp, err := one.Navigate(context.Background(), w.URL(fmt.Sprintf("/oscar/servlet/BackupDownload?chunked=1&bytes=%d", largeBody)))
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	defer resp.Body.Close()
	digest := sha256.New()
	n, err := io.Copy(digest, resp.Body)
	if err != nil {
		return fmt.Errorf("download: %s, %d bytes of %d: %w", resp.Status, n, largeBody, err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != want {
		return fmt.Errorf("download: %s, %d bytes of %d with digest %s", resp.Status, n, largeBody, got)
	}
	return nil
}

// talk keeps a WebSocket in use, and opens another at once when it is cut.
func (l *load) talk(one *edgetest.Visitor) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for l.ctx.Err() == nil {
		ws, err := dialEcho(l.ctx, one, l.d.w)
		if err != nil {
			if l.ctx.Err() == nil {
				l.t.Errorf("%s: WebSocket: %v", time.Now().UTC().Format(time.StampMilli), err)
			}
			return
		}
		for err == nil {
			<-tick.C
			if err = ws.Write(l.ctx, websocket.MessageText, []byte("hello")); err == nil {
				_, _, err = ws.Read(l.ctx)
			}
			if err == nil {
				l.echoes.Add(1)
			}
		}
		_ = ws.CloseNow()
		l.cuts.Add(1)
	}
}

// dialEcho opens the WebSocket that echoes.
func dialEcho(ctx context.Context, one *edgetest.Visitor, w *edgetest.World) (*websocket.Conn, error) {
	header := http.Header{"Origin": {strings.TrimSuffix(w.URL("/"), "/")}}
	ws, _, err := websocket.Dial(ctx, strings.Replace(w.URL("/oscar/socket/echo"), "https:", "wss:", 1), &websocket.DialOptions{HTTPClient: one.Client, HTTPHeader: header})
	return ws, err
}

// more waits until some more of everything was done.
func (l *load) more() {
	l.t.Helper()
	small, large := l.small.Load()+50, l.large.Load()+l.files
	edgetest.Eventually(l.t, "requests to be answered", func() error {
		if l.t.Failed() {
			l.t.FailNow()
		}
		if l.small.Load() < small || l.large.Load() < large {
			return errors.New("too few")
		}
		return nil
	})
}

// end ends the load and says how much it was.
func (l *load) end() {
	l.t.Helper()
	cuts := l.cuts.Load()
	l.stop()
	l.all.Wait()
	l.t.Logf("%d requests, %d files, %d messages; the WebSocket was cut %d times", l.small.Load(), l.large.Load(), l.echoes.Load(), cuts)
}
