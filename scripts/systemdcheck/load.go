package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const proxyPassword = "not-for-everybody"

// proxy is the clinic's, for whoever knows its password.
type proxy struct {
	address string
	carried atomic.Int64 // connections, ever
}

// serveOriginAndProxy has both run until the process ends.
func serveOriginAndProxy() (*proxy, error) {
	origin, err := net.Listen("tcp", "127.0.0.1:8081")
	if err != nil {
		return nil, err
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{address: outside.Addr().String()}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	for l, handler := range map[net.Listener]http.Handler{origin: answer, outside: p} {
		go func() {
			err := (&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}).Serve(l)
			fmt.Fprintln(os.Stderr, "systemdcheck: serve:", err)
			os.Exit(1)
		}()
	}
	return p, nil
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("clinic:"+proxyPassword))
	if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	far, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = far.Close()
		return
	}
	p.carried.Add(1)
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(ends[0], ends[1])
			_, _ = ends[0].Close(), ends[1].Close()
		})
	}
	both.Wait()
}

// load is services at work, each request with a body that nothing sends twice.
type load struct {
	token   string
	clients []*http.Client

	stop            context.CancelFunc
	working         sync.WaitGroup
	requests, fails atomic.Int64
	first           atomic.Pointer[error]
}

func newLoad(token string) (*load, error) {
	text, err := os.ReadFile("/var/lib/sallyport-edge/ca/ca.pem")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	l := &load{token: token}
	for n := range 4 {
		l.clients = append(l.clients, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: n%2 == 0,
		}})
	}
	return l, nil
}

func (l *load) once(ctx context.Context, c *http.Client) error {
	const words = "are you there"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://oscar.clinic.test/echo", struct{ io.Reader }{strings.NewReader(words)})
	if err != nil {
		return err
	}
	req.Header.Set("Sallyport-Access-Token", l.token)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(text) != words) {
		err = fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	return err
}

// answered waits until requests are answered.
func (l *load) answered() error {
	return eventually("a request to be answered", func() error { return l.once(context.Background(), l.clients[0]) })
}

func (l *load) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	for _, c := range l.clients {
		l.working.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				l.requests.Add(1)
				if err := l.once(context.Background(), c); err != nil {
					l.fails.Add(1)
					l.first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
}

// end reports requests that failed.
func (l *load) end() error {
	l.stop()
	l.working.Wait()
	fmt.Printf("%d requests meanwhile, %d failed\n", l.requests.Load(), l.fails.Load())
	if l.fails.Load() > 0 {
		return fmt.Errorf("%d of %d requests failed, the first: %w", l.fails.Load(), l.requests.Load(), *l.first.Load())
	}
	if l.requests.Load() < 100 {
		return errors.New("too few requests to tell anything")
	}
	return nil
}
