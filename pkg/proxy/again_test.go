package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

type deadLink struct{ tunnel.Link }

func (deadLink) Open(context.Context) (tunnel.Stream, error) {
	return nil, &tunnel.ClosedError{Reason: tunnel.Reason{Code: "lost"}}
}

// refusing is a link to somebody who answers everything with a code, once he has read so much of the request's body.
func refusing(t *testing.T, code string, read int) tunnel.Link {
	return served(t, handler(func(in *exchange.Incoming, out *exchange.Answer) {
		_, _ = io.CopyN(io.Discard, in.Body, int64(read))
		out.Abort(code, "")
	}))
}

// served is a link whose exchanges h answers, until the test ends.
func served(t *testing.T, h exchange.Handler) tunnel.Link {
	near, far := exchangetest.Memory()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { serve(ctx, far, h, &serving) })
	t.Cleanup(func() {
		cancel()
		_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		serving.Wait()
	})
	return near
}

type handler func(in *exchange.Incoming, out *exchange.Answer)

func (h handler) ServeExchange(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
	h(in, out)
}

// counting is an origin that says what it got, and counts.
func counting(t *testing.T) (url string, hits *atomic.Int32) {
	hits = new(atomic.Int32)
	return origin(t, func(rw http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		all := sha256.New()
		n, err := io.Copy(all, r.Body)
		_, _ = fmt.Fprintf(rw, "%d %x %v", n, all.Sum(nil), err)
	}), hits
}

// slowly hides what a body is, and gives it in pieces.
func slowly(body []byte) io.Reader {
	return struct{ io.Reader }{io.MultiReader(bytes.NewReader(body[:len(body)/3]), bytes.NewReader(body[len(body)/3:]))}
}

// A request that no connector has a byte of goes another way, whatever it is and with all of its body; the clinic's server sees it once.
func TestWhatReachedNoConnectorGoesAnotherWay(t *testing.T) {
	url, hits := counting(t)
	for name, ways := range map[string]func() []*registry.Member{
		"a link that has just died":  func() []*registry.Member { return []*registry.Member{{Link: deadLink{}}} },
		"two":                        func() []*registry.Member { return []*registry.Member{{Link: deadLink{}}, {Link: deadLink{}}} },
		"an edge that knows no such": func() []*registry.Member { return []*registry.Member{{Hop: 1, Link: refusing(t, wire.CodeNotHere, 0)}} },
		"one that looked at the body": func() []*registry.Member {
			return []*registry.Member{{Hop: 1, Link: refusing(t, wire.CodeNotHere, 1000)}}
		},
		"an edge and then a dead link": func() []*registry.Member {
			return []*registry.Member{{Hop: 1, Link: refusing(t, wire.CodeNotHere, 500)}, {Link: deadLink{}}}
		},
	} {
		for _, size := range []int{-1, 0, 2000, 30_000} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				w := newWay(t, url, wayConfig{})
				hits.Store(0)
				for _, m := range ways() {
					w.picks = append(w.picks, func() (*registry.Member, error) { return m, nil })
				}
				method, body, sent := http.MethodGet, io.Reader(nil), []byte{}
				if size >= 0 {
					method, sent = http.MethodPost, bytes.Repeat([]byte("note"), size/4)
					body = slowly(sent)
				}
				resp := w.do(w.request(method, "/oscar/save.do", body))
				want := fmt.Sprintf("%d %x <nil>", len(sent), sha256.Sum256(sent))
				if got := readAll(t, resp.Body); resp.StatusCode != http.StatusOK || got != want || hits.Load() != 1 {
					t.Errorf("%d %q after %d requests, want %q", resp.StatusCode, got, hits.Load(), want)
				}
			})
		}
	}
}

// A body of which more was read than is kept cannot be sent again, nor what a connector may have; and there is an end to trying.
func TestWhatMayHaveArrivedIsNotSentAgain(t *testing.T) {
	url, hits := counting(t)
	for name, c := range map[string]struct {
		size int
		ways []*registry.Member
	}{
		"more than is kept":    {1 << 20, []*registry.Member{{Hop: 1, Link: refusing(t, wire.CodeNotHere, 200_000)}}},
		"a connector says so":  {100, []*registry.Member{{Link: refusing(t, wire.CodeNotHere, 0)}}},
		"it went on and broke": {100, []*registry.Member{{Hop: 1, Link: refusing(t, wire.CodeTunnelDown, 0)}}},
		"three in a row":       {100, []*registry.Member{{Link: deadLink{}}, {Link: deadLink{}}, {Link: deadLink{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWay(t, url, wayConfig{})
			for _, m := range c.ways {
				w.picks = append(w.picks, func() (*registry.Member, error) { return m, nil })
			}
			resp := w.do(w.request(http.MethodPost, "/oscar/save.do", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", c.size))}))
			if got := errorCode(t, resp); got != wire.CodeTunnelDown || hits.Load() != 0 {
				t.Errorf("%d %s, the origin saw %d requests", resp.StatusCode, got, hits.Load())
			}
		})
	}
}

// The browser's connection goes on after a request whose body nobody wanted.
func TestAConnectionOutlivesABodyThatNobodyWanted(t *testing.T) {
	url, hits := counting(t)
	w := newWay(t, url, wayConfig{})
	conn, answers := w.raw()
	for range 3 {
		w.noLink()
		say(conn, "POST /oscar/save.do HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nnote", publicHost)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := errorCode(t, resp); got != wire.CodeTunnelDown {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
	}
	say(conn, "POST /oscar/save.do HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nnote", publicHost)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || hits.Load() != 1 {
		t.Errorf("%s after %d requests", resp.Status, hits.Load())
	}
}
