package edgetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Whoever sends too much or too slowly is cut off within bounds, and everybody else is served meanwhile. Attack cases E1, E2,
// E4.
func TestFloods(t *testing.T) {
	k := newKnocker(t, Options{})
	before := k.w.Heap(k.w.Edge)
	for _, c := range []struct {
		name string
		f    func(*knocker)
	}{
		{"rapid resets", rapidResets},
		{"endless heads", endlessHeads},
		{"floods of small frames", smallFrames},
		{"large heads", largeHeads},
		{"slow heads and bodies", slowOnes},
	} {
		t.Run(c.name, func(t *testing.T) { k.on(t).meanwhile(func() { c.f(k.on(t)) }) })
	}
	// Garbage among it: what lived while the last collection ran may have as much beside it.
	if after := k.w.Heap(k.w.Edge); after > before+(160<<20) {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

// meanwhile runs f and checks that others are served while it runs, at least once.
func (k *knocker) meanwhile(f func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			began := time.Now()
			a, err := k.send(k.get("/oscar/wire/status?code=204", ""))
			if err != nil || a.status != http.StatusNoContent {
				k.t.Errorf("others are not served: %d, %v", a.status, err)
				return
			}
			if took := time.Since(began); took > 5*time.Second {
				k.t.Errorf("others wait for %s", took)
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
}

// last is the ping behind a flood.
var last = [8]byte{'l', 'a', 's', 't'}

// ended waits until the edge ends an HTTP/2 connection and says why, as far as it does, or has worked off all that was sent.
func (c *wire2) ended() (how string, err error) {
	for {
		f, err := c.ReadFrame()
		var slow interface{ Timeout() bool }
		if errors.As(err, &slow) && slow.Timeout() {
			return "", err
		}
		if err != nil {
			return "closed", nil //nolint:nilerr // the end is what is waited for
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return f.ErrCode.String(), nil
		case *http2.PingFrame:
			if f.IsAck() && f.Data == last {
				return workedOff, nil
			}
		}
	}
}

const workedOff = "worked off"

// flood writes until the edge ends the connection, at most n times, and returns what the edge made of it.
func (k *knocker) flood(what string, n int, write func(c *wire2, i int) error) string {
	k.t.Helper()
	c := k.wire2()
	var wg sync.WaitGroup
	var how string
	var open error
	wg.Go(func() { how, open = c.ended() })
	sent := 0
	for ; sent < n; sent++ {
		if write(c, sent) != nil {
			break
		}
	}
	_ = c.WritePing(false, last)
	wg.Wait()
	if open != nil {
		k.t.Errorf("%s: after %d nothing comes any more: %v", what, sent, open)
	}
	k.t.Logf("%s: %s after %d", what, how, sent)
	return how
}

func rapidResets(k *knocker) {
	// Each costs a handler until its end, and no more than a hundred run at once: the edge ends the connection, or keeps up.
	k.flood("resets", 20_000, func(c *wire2, _ int) error {
		stream, err := c.open(k.usual(http.MethodGet, "/oscar/wire/status?code=204"), true)
		if err == nil {
			err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		return err
	})
	// The same, with the edge made to send the resets.
	k.flood("provoked resets", 20_000, func(c *wire2, _ int) error {
		stream, err := c.open(k.usual(http.MethodPost, "/oscar/echo"), false)
		if err == nil {
			err = c.WriteWindowUpdate(stream, 0)
		}
		return err
	})
}

func endlessHeads(k *knocker) {
	how := k.flood("continuations", 20_000, func(c *wire2, i int) error {
		block := c.block([][2]string{{fmt.Sprint("x-", i), strings.Repeat("a", 8<<10)}})
		if i == 0 {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(k.usual(http.MethodGet, "/oscar/echo"))})
		}
		return c.WriteContinuation(1, false, block)
	})
	if how == workedOff {
		k.t.Error("a head of 160 MB was taken in")
	}
}

// smallFrames cost the edge an answer each; it does not heap those up for somebody who never reads them.
func smallFrames(k *knocker) {
	for what, write := range map[string]func(c *wire2) error{
		"pings": func(c *wire2) error { return c.WritePing(false, [8]byte{1}) },
		"settings": func(c *wire2) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
		},
	} {
		c := k.wire2()
		_ = c.conn.SetDeadline(time.Now().Add(5 * time.Second))
		sent := 0
		for ; sent < 100_000; sent++ {
			if write(c) != nil {
				break
			}
		}
		k.t.Logf("%s: %d taken", what, sent)
		_ = c.conn.Close()
	}
}

func largeHeads(k *knocker) {
	for name, lines := range map[string]string{
		"many small fields": strings.Repeat("X-A: b\r\n", 1<<17), "one long field": "X-A: " + strings.Repeat("b", 1<<20) + "\r\n",
		"many cookies": "Cookie: " + strings.Repeat("a=b; ", 1<<18) + "\r\n", "many names": manyNames(1 << 15),
	} {
		a, err := k.send(k.get("/oscar/echo", lines))
		// An answer may be lost to what is still being sent.
		if err == nil && a.status != http.StatusRequestHeaderFieldsTooLarge {
			k.t.Errorf("%s: %d", name, a.status)
		}
	}
	if a := k.must(k.get("/oscar/echo", strings.Repeat("X-A: b\r\n", 200))); a.status != http.StatusRequestHeaderFieldsTooLarge {
		k.t.Errorf("200 fields: %d", a.status)
	}
	fields := k.usual(http.MethodGet, "/oscar/echo")
	for i := range 20_000 {
		fields = append(fields, [2]string{fmt.Sprint("x-", i), "b"})
	}
	if a, err := k.wire2().ask(fields); err == nil && a.status != http.StatusRequestHeaderFieldsTooLarge {
		k.t.Errorf("20000 fields over HTTP/2: %d", a.status)
	}
}

func manyNames(n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "X-%d: b\r\n", i)
	}
	return b.String()
}

// slowOnes open many connections and hardly send: those without a whole head are closed in time; bodies have longer, and
// hold nobody up.
func slowOnes(k *knocker) {
	const heads, bodies = 150, 60
	closed := make(chan error, heads)
	for range heads {
		conn, err := k.dial(AppHost, "http/1.1")
		if err != nil {
			k.t.Fatal(err)
		}
		k.t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /oscar/echo HTTP/1.1\r\nHost: "+k.host()+"\r\nX-A: "); err != nil {
			k.t.Fatal(err)
		}
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(conn, "b"); err != nil {
					closed <- nil
					return
				}
			}
		}()
	}
	for i := range bodies {
		host, target := signInHost, "/email"
		if i%2 == 1 {
			host, target = AppHost, "/oscar/echo"
		}
		conn, err := k.dial(host, "http/1.1")
		if err != nil {
			k.t.Fatal(err)
		}
		k.t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 60000\r\n\r\na", target, host); err != nil {
			k.t.Fatal(err)
		}
	}
	limit := time.After(Patience)
	for n := range heads {
		select {
		case <-closed:
		case <-limit:
			k.t.Fatalf("%d of %d connections without a head stand after %s", heads-n, heads, Patience)
		}
	}
}
