package guard_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

// pipes is a listener in memory, so that time in a test is the test's own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// paced runs what a test sets up, a handler and a client that talks to it, in a bubble of its own time.
func paced(t *testing.T, setUp func() (http.HandlerFunc, func(c net.Conn))) {
	synctest.Test(t, func(t *testing.T) {
		handler, talk := setUp()
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := &http.Server{Handler: guard.Pace(handler)}
		guard.Server(s)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		client, server := net.Pipe()
		l.conns <- server
		talk(client)
		_ = client.Close()
		_ = s.Close()
		<-done
		<-time.After(time.Second) // net/http lets a closed connection linger for half of that
	})
}

func TestBodyThatStallsIsCut(t *testing.T) {
	paced(t, func() (http.HandlerFunc, func(net.Conn)) {
		result := make(chan error, 1)
		began := time.Time{}
		var took time.Duration
		return func(_ http.ResponseWriter, r *http.Request) {
				began = time.Now()
				_, err := io.ReadAll(r.Body)
				took = time.Since(began)
				result <- err
			}, func(c net.Conn) {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
				if err := <-result; !errors.Is(err, guard.ErrSlow) {
					t.Errorf("read: %v", err)
				}
				if took != guard.BodyIdle {
					t.Errorf("cut after %s", took)
				}
			}
	})
}

func TestBodyThatDripsIsCut(t *testing.T) {
	paced(t, func() (http.HandlerFunc, func(net.Conn)) {
		result := make(chan error, 1)
		return func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				result <- err
			}, func(c net.Conn) {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
				began := time.Now()
				for {
					select {
					case err := <-result:
						if took := time.Since(began); !errors.Is(err, guard.ErrSlow) || took > 2*guard.BodyIdle {
							t.Errorf("read: %v after %s", err, took)
						}
						return
					case <-time.After(10 * time.Second):
						_, _ = io.WriteString(c, "x")
					}
				}
			}
	})
}

// TestSlowButHonestBody takes an hour at 1 KiB/s, and longer because the handler is held up; both are fine.
func TestSlowButHonestBody(t *testing.T) {
	paced(t, func() (http.HandlerFunc, func(net.Conn)) {
		const chunk, chunks = 10 << 10, 360
		return func(w http.ResponseWriter, r *http.Request) {
				n, p := 0, make([]byte, 32<<10)
				for {
					k, err := r.Body.Read(p)
					n += k
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Errorf("read after %d bytes: %v", n, err)
						return
					}
					if n == chunk {
						<-time.After(5 * time.Minute) // the tunnel does not take it
					}
				}
				if n != chunk*chunks {
					t.Errorf("%d bytes", n)
				}
			}, func(c net.Conn) {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3686400\r\n\r\n")
				for range chunks {
					<-time.After(10 * time.Second)
					if _, err := io.WriteString(c, strings.Repeat("x", chunk)); err != nil {
						t.Errorf("write: %v", err)
						return
					}
				}
				if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
					t.Errorf("answer: %v, %v", res, err)
				}
			}
	})
}

// TestSlowReportArrives lets the origin think for longer than any wait may last.
func TestSlowReportArrives(t *testing.T) {
	paced(t, func() (http.HandlerFunc, func(net.Conn)) {
		return func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(200)
				_ = http.NewResponseController(w).Flush()
				<-time.After(290 * time.Second)
				_, _ = io.WriteString(w, "report")
			}, func(c net.Conn) {
				in := bufio.NewReader(c)
				for range 2 { // the connection stays good
					_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
					res, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if body, err := io.ReadAll(res.Body); err != nil || string(body) != "report" {
						t.Errorf("%q, %v", body, err)
					}
				}
			}
	})
}

func TestReaderThatStopsIsCut(t *testing.T) {
	paced(t, func() (http.HandlerFunc, func(net.Conn)) {
		result := make(chan time.Duration, 1)
		return func(w http.ResponseWriter, _ *http.Request) {
				began := time.Now()
				for {
					if _, err := w.Write(make([]byte, 32<<10)); err != nil {
						result <- time.Since(began)
						return
					}
				}
			}, func(c net.Conn) {
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				if took := <-result; took != guard.BodyIdle {
					t.Errorf("cut after %s", took)
				}
			}
	})
}

// TestSlowAndIdleConnectionsAreClosed is attack case E2 for heads, and idling between requests.
func TestSlowAndIdleConnectionsAreClosed(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		want time.Duration
	}{
		"half a head": {"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", guard.HeaderTimeout},
		"after one":   {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", guard.IdleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			paced(t, func() (http.HandlerFunc, func(net.Conn)) {
				return func(http.ResponseWriter, *http.Request) {}, func(conn net.Conn) {
					began := time.Now()
					_, _ = io.WriteString(conn, c.sent)
					if _, err := io.Copy(io.Discard, conn); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took != c.want {
						t.Errorf("closed after %s, want %s", took, c.want)
					}
				}
			})
		})
	}
}

// A body that breaks, or is left unread in full duplex, ends its connection: what stands on the wire behind it is no request.
func TestNothingIsReadBehindABrokenBody(t *testing.T) {
	const hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, c := range map[string]struct {
		request      string
		read, duplex bool
		again        bool
	}{
		"a broken chunk, read in full duplex":   {"Transfer-Encoding: chunked\r\n\r\n3\r\n" + hidden, true, true, false},
		"a broken chunk, unread in full duplex": {"Transfer-Encoding: chunked\r\n\r\n3\r\n" + hidden, false, true, false},
		"a broken chunk, read":                  {"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + hidden, true, false, false},
		"unread in full duplex":                 {"Content-Length: 40\r\n\r\n" + hidden, false, true, false},
		"promised and unread":                   {"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n" + hidden, false, false, false},
		"whole":                                 {"Content-Length: 3\r\n\r\nabc" + hidden, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			hits := 0
			paced(t, func() (http.HandlerFunc, func(net.Conn)) {
				return func(w http.ResponseWriter, r *http.Request) {
						hits++
						if c.duplex {
							_ = http.NewResponseController(w).EnableFullDuplex()
						}
						if c.read {
							_, _ = io.ReadAll(r.Body)
						}
						_, _ = io.WriteString(w, "answer")
					}, func(conn net.Conn) {
						go func() { _, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\n"+c.request) }()
						in := bufio.NewReader(conn)
						for range 1 + map[bool]int{true: 1}[c.again] {
							resp, err := http.ReadResponse(in, nil)
							if err != nil {
								t.Fatal(err)
							}
							if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "answer" {
								t.Errorf("%q, %v", text, err)
							}
						}
						if !c.again {
							if rest, err := io.ReadAll(in); len(rest) != 0 || err != nil {
								t.Errorf("then %q, %v", rest, err)
							}
						}
					}
			})
			if want := 1 + map[bool]int{true: 1}[c.again]; hits != want {
				t.Errorf("%d requests were run, want %d", hits, want)
			}
		})
	}
}
