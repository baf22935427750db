package ingress

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// server is an origin that says its name and counts its connections.
type server struct {
	*httptest.Server
	opened, closed, checked chan struct{}
}

func newServer(t *testing.T, name string, before func(*http.Request)) *server {
	s := &server{opened: make(chan struct{}, 64), closed: make(chan struct{}, 64), checked: make(chan struct{}, 64)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == "sallyport-probe" {
			s.checked <- struct{}{}
			return
		}
		before(r)
		_, _ = io.WriteString(w, name)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.opened <- struct{}{}
		case http.StateClosed:
			s.closed <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// over serves in over a link in memory and returns how to ask it.
func over(t *testing.T, in *Ingress) func(path string) (int, string, error) {
	t.Helper()
	edge, connector := exchangetest.Memory()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			s, err := connector.Accept(context.Background())
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = wire.ReadKind(s)
				_ = exchange.Serve(context.Background(), s, in)
			})
		}
	})
	t.Cleanup(func() {
		_ = edge.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		serving.Wait()
	})
	return func(path string) (int, string, error) {
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{Head: wire.RequestHead{
			Exchange: 1, Tenant: "maple", Site: "main", App: "app", Method: http.MethodGet, Scheme: "https", Host: "oscar.maple.example",
			Path: path, ClientIP: "192.0.2.1",
		}})
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return resp.Head.Status, string(text), err
	}
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain for " + what)
	}
}

// Rules are swapped under load: what runs ends on its old origin, what comes meets the new one, an origin of both keeps its
// connection, one that is gone is let go of, one that is new is checked.
func TestRulesAreSwappedAtOnceAndWhole(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	old := newServer(t, "old", func(*http.Request) { close(arrived); <-goOn })
	fresh := newServer(t, "fresh", func(*http.Request) {})
	kept := newServer(t, "kept", func(*http.Request) {})
	rules := func(main string) *Rules {
		return load(t, "rules:\n  - path: /kept\n    origin: "+kept.URL+"\n  - path: /oscar\n    origin: "+main+"\n  - status: 404\n")
	}
	in := New(Config{Rules: rules(old.URL)})
	ask := over(t, in)
	want := func(path string, status int, text string) {
		t.Helper()
		if gotStatus, got, err := ask(path); err != nil || gotStatus != status || got != text {
			t.Fatalf("%s: %d %q, %v; want %d %q", path, gotStatus, got, err, status, text)
		}
	}
	want("/kept", 200, "kept")
	slow := make(chan error, 1)
	go func() {
		status, text, err := ask("/oscar/report")
		if err == nil && (status != 200 || text != "old") {
			err = io.ErrUnexpectedEOF
		}
		slow <- err
	}()
	await(t, "the slow request", arrived)

	in.Swap(rules(fresh.URL))
	want("/oscar/x", 200, "fresh")
	want("/kept", 200, "kept")
	close(goOn)
	if err := <-slow; err != nil {
		t.Errorf("what ran during the swap: %v", err)
	}
	await(t, "the end of the connection to the origin that is gone", old.closed)
	if n := len(kept.opened); n != 1 {
		t.Errorf("the origin that stayed saw %d connections", n)
	}

	in.Swap(NoRules())
	want("/oscar/x", 404, "")
	await(t, "the end of the other connections", fresh.closed)
	await(t, "the end of the other connections", kept.closed)
	if len(in.Health()) != 0 {
		t.Error("origins that are gone are still reported")
	}
}

func TestChecksFollowTheRules(t *testing.T) {
	one, two := newServer(t, "one", func(*http.Request) {}), newServer(t, "two", func(*http.Request) {})
	in := New(Config{Rules: NoRules()})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = in.Run(ctx)
	}()
	rule := func(s *server) *Rules { return load(t, "rules:\n  - origin: "+s.URL+"\n    health: {interval: 1s}\n") }
	in.Swap(rule(one))
	await(t, "a check of the first origin", one.checked)
	in.Swap(rule(two))
	await(t, "a check of the second origin", two.checked)
	for len(one.checked) > 0 {
		<-one.checked
	}
	await(t, "another check of the second origin", two.checked)
	await(t, "one more", two.checked)
	if len(one.checked) != 0 {
		t.Error("an origin that is gone is still checked")
	}
	stop()
	await(t, "the end of the checks", ended)
}
