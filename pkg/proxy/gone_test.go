package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// dying is a link to an edge that dies once it has the request and so much of its body.
func dying(t *testing.T, read int) (link tunnel.Link) {
	link = served(t, handler(func(in *exchange.Incoming, _ *exchange.Answer) {
		_, _ = io.CopyN(io.Discard, in.Body, int64(read))
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonLost})
	}))
	return link
}

// noted passes exchanges on to the clinic, and notes whether they were marked as sent again.
type noted struct {
	tunnel.Link
	again []bool
}

// asks makes a link over which the connector answers what says, or serves if it says nothing.
func (n *noted) asks(t *testing.T, w *way, says string) {
	n.Link = served(t, whole(func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
		n.again = append(n.again, in.Head.Again)
		if says != "" {
			out.Abort(says, "")
			return
		}
		w.ingress.ServeExchange(ctx, in, out)
	}))
}

type whole func(context.Context, *exchange.Incoming, *exchange.Answer)

func (h whole) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	h(ctx, in, out)
}

// An edge that dies with a request costs nothing if the connector has not had that: the same run of it is asked over another edge, with
// the whole body, and told that it may have come before.
func TestAnEdgeDiesWithARequest(t *testing.T) {
	url, hits := counting(t)
	for name, c := range map[string]struct {
		ways   []string // what the other ways to the run answer, in order; "" serves
		size   int      // of the body; 0: none
		read   int      // how much of it the edge took that dies
		status int
		again  int // how often the run was asked
		within time.Duration
	}{
		"it had not come":                 {ways: []string{""}, status: http.StatusOK, again: 1},
		"nor had any of its body":         {ways: []string{""}, size: 30_000, status: http.StatusOK, again: 1},
		"some of its body was on the way": {ways: []string{""}, size: 30_000, read: 20_000, status: http.StatusOK, again: 1},
		"the next edge knows no such run": {ways: []string{wire.CodeNotHere, ""}, size: 3_000, status: http.StatusOK, again: 2},
		"it has had it":                   {ways: []string{wire.CodeTunnelDown, ""}, status: http.StatusServiceUnavailable, again: 1},
		"no other way":                    {status: http.StatusServiceUnavailable},
		"it was sent too long ago":        {ways: []string{""}, within: 1, status: http.StatusServiceUnavailable},
		"too much of the body has gone":   {ways: []string{""}, size: 1 << 20, read: 200_000, status: http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWay(t, url, wayConfig{again: c.within})
			hits.Store(0)
			asked := &noted{}
			var next func(context.Context) *registry.Member
			next = func(context.Context) *registry.Member {
				if len(c.ways) == 0 {
					return nil
				}
				asked.asks(t, w, c.ways[0])
				c.ways = c.ways[1:]
				return &registry.Member{Connector: "con_1", Generation: 3, Hop: 1, Link: asked.Link, Again: next}
			}
			w.picks = append(w.picks, func() (*registry.Member, error) {
				return &registry.Member{Connector: "con_1", Generation: 3, Hop: 1, Link: dying(t, c.read), Again: next}, nil
			})
			method, body, sent := http.MethodGet, io.Reader(nil), bytes.Repeat([]byte("x"), c.size)
			if c.size > 0 {
				method, body = http.MethodPost, slowly(sent)
			}
			resp := w.do(w.request(method, "/oscar/save.do", body))
			got := readAll(t, resp.Body)
			if resp.StatusCode != c.status || len(asked.again) != c.again {
				t.Errorf("%d %.100q, and the run was asked %d times", resp.StatusCode, got, len(asked.again))
			}
			for _, again := range asked.again {
				if !again {
					t.Error("the connector was not told that it may have had the request")
				}
			}
			served := int32(0)
			if c.status == http.StatusOK {
				served = 1
				if want := fmt.Sprintf("%d %x <nil>", len(sent), sha256.Sum256(sent)); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			if hits.Load() != served {
				t.Errorf("the origin saw %d requests", hits.Load())
			}
		})
	}
}
