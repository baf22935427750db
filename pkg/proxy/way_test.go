package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/proxy"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// patience bounds every wait: a test that runs into it has failed.
const patience = time.Minute

const publicHost = "oscar.maple.example"

// way is the whole path in one process: browser → edge → in-memory link → connector → origin.
type way struct {
	t       testing.TB
	edge    *httptest.Server
	ingress *ingress.Ingress
	link    tunnel.Link
	results chan proxy.Result
	serve   http.HandlerFunc // what the edge serves

	mu    sync.Mutex
	picks []func() (*registry.Member, error) // before the link itself
	lease func(context.Context) context.Context
	wrap  func(http.ResponseWriter) http.ResponseWriter
}

type wayConfig struct {
	rules string // replaces the rule for the origin
	extra string // lines added to the rule for the origin
	http2 bool
	tls   bool
	again time.Duration
}

// newWay publishes the origin at originURL.
func newWay(t testing.TB, originURL string, cfg wayConfig) *way {
	t.Helper()
	if cfg.rules == "" {
		cfg.rules = "rules:\n  - host: " + publicHost + "\n    origin: " + originURL + "\n" + cfg.extra + "  - status: 404\n"
	}
	rules, faults := ingress.Load([]byte(cfg.rules))
	if len(faults) > 0 {
		t.Fatalf("rules: %v", errors.Join(faults...))
	}
	w := &way{t: t, ingress: ingress.New(ingress.Config{Rules: rules, Metrics: metric.New()}), results: make(chan proxy.Result, 1024)}
	edgeEnd, connectorEnd := exchangetest.Memory()
	w.link = edgeEnd
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { serve(ctx, connectorEnd, w.ingress, &serving) })

	pages, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(proxy.Config{Registry: w, Pages: pages, Again: cfg.again, Metrics: metric.New()})
	w.serve = func(rw http.ResponseWriter, r *http.Request) { w.carry(p, rw, r) }
	w.edge = httptest.NewUnstartedServer(w.serve)
	w.edge.EnableHTTP2 = cfg.http2
	if cfg.http2 || cfg.tls {
		w.edge.StartTLS()
	} else {
		w.edge.Start()
	}
	t.Cleanup(func() {
		w.edge.Close()
		cancel()
		_ = edgeEnd.Close(tunnel.Reason{Code: "goodbye"})
		serving.Wait()
		w.ingress.Close()
	})
	return w
}

func serve(ctx context.Context, link tunnel.Link, h exchange.Handler, serving *sync.WaitGroup) {
	for {
		s, err := link.Accept(ctx)
		if err != nil {
			return
		}
		serving.Go(func() {
			var kind [1]byte
			if _, err := io.ReadFull(s, kind[:]); err != nil {
				s.Reset(tunnel.ResetProtocol)
				return
			}
			_ = exchange.Serve(ctx, s, h)
		})
	}
}

func (w *way) carry(p *proxy.Proxy, rw http.ResponseWriter, r *http.Request) {
	target, err := urlpath.Parse(r.RequestURI, urlpath.Options{})
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	lease, wrap := w.lease, w.wrap
	w.mu.Unlock()
	if wrap != nil {
		rw = wrap(rw)
	}
	if lease != nil {
		r = r.WithContext(lease(r.Context()))
	}
	p.Carry(rw, r, proxy.Passage{
		Tenant: tenant.Tenant{ID: "maple", Name: "Maple Clinic"},
		App: tenant.App{
			Tenant: "maple", ID: "app_1", Host: publicHost, Path: "/", Site: "main", Name: "OSCAR", WebSocket: []string{"/oscar/ws"},
		},
		Target: target, Host: publicHost + ":8443", RequestID: "REQUEST1", ClientIP: "203.0.113.7",
		Assertions: func(id.Connector, uint64) (string, string, error) { return "for-connector", "for-origin", nil },
		Conclude:   func(r proxy.Result) { w.results <- r },
	})
}

// Pick implements proxy.Picker.
func (w *way) Pick(context.Context, id.Tenant, id.Site, string) (*registry.Member, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.picks) > 0 {
		next := w.picks[0]
		w.picks = w.picks[1:]
		return next()
	}
	return &registry.Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 3, Link: w.link}, nil
}

func (w *way) noLink() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.picks = append(w.picks, func() (*registry.Member, error) {
		return nil, fault.New(fault.Unavailable, "no connector is connected")
	})
}

// result waits for the next outcome.
func (w *way) result() proxy.Result {
	w.t.Helper()
	select {
	case r := <-w.results:
		return r
	case <-time.After(patience):
		w.t.Fatal("no outcome")
		return proxy.Result{}
	}
}

// request makes a request to the edge as a browser's script would.
func (w *way) request(method, target string, body io.Reader) *http.Request {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, w.edge.URL+target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = publicHost
	return r
}

func (w *way) client() *http.Client {
	tr := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: w.edge.EnableHTTP2}
	if w.edge.TLS != nil {
		tr.TLSClientConfig = w.edge.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *way) do(r *http.Request) *http.Response {
	w.t.Helper()
	resp, err := w.client().Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (w *way) get(target string) (*http.Response, string) {
	w.t.Helper()
	resp := w.do(w.request(http.MethodGet, target, nil))
	return resp, readAll(w.t, resp.Body)
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

// raw opens a plain connection to the edge.
func (w *way) raw() (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.edge.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

// origin starts an HTTP origin.
func origin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// rawOrigin hands each connection to f with the head of the first request, in the bytes that arrived.
func rawOrigin(t testing.TB, f func(c net.Conn, r *bufio.Reader, head string)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(patience))
				r := bufio.NewReader(c)
				var head strings.Builder
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == "\r\n" {
						break
					}
					head.WriteString(line)
				}
				f(c, r, head.String())
			})
		}
	})
	return "http://" + ln.Addr().String()
}

func say(c net.Conn, format string, args ...any) { _, _ = fmt.Fprintf(c, format, args...) }
