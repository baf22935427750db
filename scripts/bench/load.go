package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	process "github.com/sallyport-dev/sallyport/pkg/run"
)

// work is what the load generator, a process of its own, is asked to do for one measurement.
type work struct {
	// Base is the scheme and host of every URL, Dial the address that all hosts are reached at.
	Base, Dial string
	// Roots is a PEM file, or empty.
	Roots  string
	Header map[string]string
	// Connections ask for Bytes, one request after the other; every Every, or at once where it is 0.
	Connections int
	Bytes       int64
	Every       time.Duration
	// Files is how many people send and fetch FileBytes in turn, one after the other.
	Files     int
	FileBytes int64
	// Users each load a page every Every.
	Users int
	// Downloads run beside, without an end.
	Downloads int
	// Down and Up are one body of so many bytes each, instead of all that.
	Down, Up int64
	// Warm goes before the For that is measured.
	Warm, For time.Duration
	// Groups are the process groups whose processor time is measured.
	Groups []int
}

// measured is what came of it, within the time that counts.
type measured struct {
	Count  int    `json:"count"` // requests, or pages
	Failed int    `json:"failed"`
	Fault  string `json:"fault,omitempty"` // the first
	// P50 and P99 are the time of a request, or of a page, in seconds.
	P50 float64 `json:"p50_s"`
	P99 float64 `json:"p99_s"`
	// Bytes came or went in bodies of downloads and uploads.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	// CPU is in seconds, by group.
	CPU []float64 `json:"cpu_s"`
}

// A page as a browser loads it: the document, then what it names, over six connections.
const (
	pageDocument    = 30_000
	pageObjects     = 12
	pageObject      = 15_000
	pageConnections = 6
	requestTimeout  = 60 * time.Second
)

// generateLoad is the role of the load generator: one question on standard input, one answer on standard output.
func generateLoad() error {
	defer process.Heap(stageHeap)()
	var w work
	if err := json.NewDecoder(os.Stdin).Decode(&w); err != nil {
		return err
	}
	g := &generator{work: w, began: time.Now()}
	if err := g.prepare(); err != nil {
		return err
	}
	m, err := g.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

type generator struct {
	work
	roots *x509.CertPool
	began time.Time
	bytes atomic.Int64 // of downloads, warm-up included

	mu     sync.Mutex // guards what follows
	took   []time.Duration
	failed int
	fault  error
}

func (g *generator) prepare() error {
	if g.Roots == "" {
		return nil
	}
	text, err := os.ReadFile(g.Roots)
	if err != nil {
		return err
	}
	if g.roots = x509.NewCertPool(); !g.roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: no certificate", g.Roots)
	}
	return nil
}

// run does the work and measures it.
func (g *generator) run() (measured, error) {
	if g.Down > 0 || g.Up > 0 {
		return g.once()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for range g.Downloads {
		all.Go(func() { g.download(ctx) })
	}
	for i := range g.Connections {
		all.Go(func() { g.requests(i) })
	}
	for range g.Files {
		all.Go(func() { g.files(ctx) })
	}
	for i := range g.Users {
		all.Go(func() { g.user(i) })
	}
	pause(time.Until(g.began.Add(g.Warm)))
	before, err := spent(g.Groups)
	if err != nil {
		return measured{}, err
	}
	bytes, began := g.bytes.Load(), time.Now()
	pause(time.Until(g.end()))
	m := measured{Bytes: g.bytes.Load() - bytes, Seconds: time.Since(began).Seconds()}
	after, err := spent(g.Groups)
	if err != nil {
		return measured{}, err
	}
	for i := range before {
		m.CPU = append(m.CPU, (after[i] - before[i]).Seconds())
	}
	cancel()
	all.Wait()
	slices.Sort(g.took)
	m.Count, m.Failed = len(g.took), g.failed
	if g.fault != nil {
		m.Fault = g.fault.Error()
	}
	if n := len(g.took); n > 0 {
		m.P50, m.P99 = g.took[n/2].Seconds(), g.took[(n*99+99)/100-1].Seconds()
	}
	return m, nil
}

func (g *generator) end() time.Time { return g.began.Add(g.Warm + g.For) }

// pause waits; what it waits for is the time itself.
func pause(d time.Duration) { <-time.After(max(0, d)) }

// note counts one request or page that began at a time. What began before the warm-up was over, or ended after the end, does
// not count; a failure counts whenever it is.
func (g *generator) note(began time.Time, err error) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		g.failed++
		if g.fault == nil {
			g.fault = err
		}
	case began.Before(g.began.Add(g.Warm)):
	default:
		g.took = append(g.took, now.Sub(began))
	}
}

// dial opens a connection as a browser does.
func (g *generator) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 20 * time.Second}).DialContext(ctx, "tcp", g.Dial)
	if err != nil {
		return nil, err
	}
	host, secure := strings.CutPrefix(g.Base, "https://")
	if !secure {
		return conn, nil
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return tls.Client(conn, &tls.Config{RootCAs: g.roots, ServerName: name, NextProtos: []string{"http/1.1"}}), nil
}

// requests keeps one connection busy. It writes and reads the connection itself: net/http's client costs more than some of
// what is measured here, and both share the processors.
func (g *generator) requests(n int) {
	if g.Every > 0 { // not all at the same moment
		pause(g.Every * time.Duration(n) / time.Duration(g.Connections))
	}
	head := g.head()
	var conn net.Conn
	var in *bufio.Reader
	next := time.Now()
	for time.Now().Before(g.end()) {
		began := time.Now()
		var err error
		var last bool
		if conn == nil {
			if conn, err = g.dial(context.Background()); err == nil {
				in = bufio.NewReader(conn)
			}
		}
		if err == nil {
			_ = conn.SetDeadline(began.Add(requestTimeout))
			last, err = exchangeRaw(conn, in, head, g.Bytes)
		}
		g.note(began, err)
		if (err != nil || last) && conn != nil {
			_ = conn.Close()
			conn = nil
		}
		if err != nil {
			pause(50 * time.Millisecond)
		}
		if g.Every > 0 {
			next = later(next.Add(g.Every), time.Now())
			pause(time.Until(next))
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// head is the request of those who ask for Bytes.
func (g *generator) head() string {
	_, host, _ := strings.Cut(g.Base, "://")
	head := fmt.Sprintf("GET /object?bytes=%d HTTP/1.1\r\nHost: %s\r\n", g.Bytes, host)
	for k, v := range g.Header {
		head += k + ": " + v + "\r\n"
	}
	return head + "\r\n"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// exchangeRaw sends one request and reads its answer, which must have size bytes. last says that the connection takes no other.
func exchangeRaw(conn net.Conn, in *bufio.Reader, head string, size int64) (last bool, err error) {
	if _, err := io.WriteString(conn, head); err != nil {
		return true, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != size) {
		err = fmt.Errorf("%s with %d bytes", resp.Status, n)
	}
	return resp.Close, err
}

// browser is a client with as many connections as a browser opens to a host.
func (g *generator) browser() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return g.dial(ctx) }
	return &http.Client{Transport: &http.Transport{
		DialContext: dial, DialTLSContext: dial, MaxConnsPerHost: pageConnections, MaxIdleConnsPerHost: pageConnections, DisableCompression: true,
	}}
}

func (g *generator) get(ctx context.Context, c *http.Client, size int64, sink io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/object?bytes=%d", g.Base, size), nil)
	if err != nil {
		return err
	}
	return g.do(c, req, size, sink)
}

func (g *generator) do(c *http.Client, req *http.Request, size int64, sink io.Writer) error {
	for k, v := range g.Header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(sink, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != size) {
		err = fmt.Errorf("%s with %d bytes", resp.Status, n)
	}
	return err
}

// user loads a page every so often until the end; whoever is late goes on at once.
func (g *generator) user(n int) {
	c := g.browser()
	defer c.CloseIdleConnections()
	next := g.began.Add(g.Every * time.Duration(n) / time.Duration(g.Users))
	for {
		pause(time.Until(next))
		began := time.Now()
		if began.After(g.end()) {
			return
		}
		g.note(began, g.page(c))
		next = later(next.Add(g.Every), time.Now())
	}
}

func (g *generator) page(c *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := g.get(ctx, c, pageDocument, io.Discard); err != nil {
		return err
	}
	faults := make([]error, pageObjects)
	var objects sync.WaitGroup
	for i := range faults {
		objects.Go(func() { faults[i] = g.get(ctx, c, pageObject, io.Discard) })
	}
	objects.Wait()
	return errors.Join(faults...)
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// download fetches without an end, and begins again if it breaks, which is a failure.
func (g *generator) download(ctx context.Context) {
	c := g.browser()
	defer c.CloseIdleConnections()
	const endless = 1 << 40
	for ctx.Err() == nil {
		if err := g.get(ctx, c, endless, counter{&g.bytes}); err != nil && ctx.Err() == nil {
			g.note(time.Now(), fmt.Errorf("download: %w", err))
			pause(100 * time.Millisecond)
		}
	}
}

// files sends and fetches in turn until the end.
func (g *generator) files(ctx context.Context) {
	c := g.browser()
	defer c.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		var err error
		if n%2 == 0 {
			err = g.upload(ctx, c, g.FileBytes)
		} else {
			err = g.get(ctx, c, g.FileBytes, counter{&g.bytes})
		}
		if err != nil && ctx.Err() == nil {
			g.note(time.Now(), fmt.Errorf("file %d: %w", n, err))
			pause(100 * time.Millisecond)
		}
	}
}

// once moves one body each way.
func (g *generator) once() (measured, error) {
	c := g.browser()
	defer c.CloseIdleConnections()
	ctx := context.Background()
	before, err := spent(g.Groups)
	if err != nil {
		return measured{}, err
	}
	began := time.Now()
	if g.Down > 0 {
		err = g.get(ctx, c, g.Down, io.Discard)
	} else {
		err = g.upload(ctx, c, g.Up)
	}
	if err != nil {
		return measured{}, err
	}
	m := measured{Count: 1, Bytes: g.Down + g.Up, Seconds: time.Since(began).Seconds()}
	after, err := spent(g.Groups)
	for i := range after {
		m.CPU = append(m.CPU, (after[i] - before[i]).Seconds())
	}
	return m, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func (g *generator) upload(ctx context.Context, c *http.Client, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Base+"/sink", io.LimitReader(zeros{}, size))
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	var came strings.Builder
	answer := fmt.Sprint(size)
	if err := g.do(c, req, int64(len(answer)), &came); err != nil {
		return err
	}
	if came.String() != answer {
		return fmt.Errorf("upload: %s of %d bytes came", came.String(), size)
	}
	return nil
}
