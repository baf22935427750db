package edgetest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// knocker speaks to a World's edge in bytes of its own making, as a service that may use the app.
type knocker struct {
	t      *testing.T
	w      *World
	tomcat *Tomcat
	token  string
}

// newKnocker makes a World in front of the shared Tomcat and lets a service in.
func newKnocker(t *testing.T, opt Options) *knocker {
	t.Helper()
	k := &knocker{t: t}
	if opt.Origin == "" {
		k.tomcat = StartTomcat(t, TomcatOptions{})
		opt.Origin, opt.Pin = k.tomcat.URL, k.tomcat.Pin
	}
	k.w = Start(t, opt)
	app := regexp.MustCompile(`app_[0-9a-f-]+`).FindString(k.w.Admin("app", "list"))
	k.w.Admin("app", "access", app, "--allow", strings.Join(Doctors(), ","), "--allow-service", "lab")
	k.token = k.w.Admin("token", "mint", "lab")
	k.eventuallyOpen()
	return k
}

// eventuallyOpen waits until the edge judges by the rules that let the service in.
func (k *knocker) eventuallyOpen() {
	k.t.Helper()
	Eventually(k.t, "the service to be let in", func() error {
		a, err := k.send(k.get(probePath, ""))
		if err == nil && (a.status == http.StatusForbidden || a.status == http.StatusUnauthorized) {
			err = fmt.Errorf("status %d", a.status)
		}
		return err
	})
}

// on is k with failures reported to a subtest.
func (k *knocker) on(t *testing.T) *knocker {
	c := *k
	c.t = t
	return &c
}

func (k *knocker) host() string { return fmt.Sprintf("%s:%d", AppHost, k.w.Port) }

// identity are the lines that every well-meant request has.
func (k *knocker) identity() string {
	return "Host: " + k.host() + "\r\nSallyport-Access-Token: " + k.token + "\r\n"
}

// get is a request for target with further lines, each ended by CR LF.
func (k *knocker) get(target, lines string) string {
	return "GET " + target + " HTTP/1.1\r\n" + k.identity() + lines + "\r\n"
}

// with is a request by another method, with a body as it stands.
func (k *knocker) with(method, target, lines, body string) string {
	return method + " " + target + " HTTP/1.1\r\n" + k.identity() + lines + "\r\n" + body
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	// trailer holds what followed the body.
	trailer http.Header
	// early are the informational answers before it.
	early []int
	// broken is why the body is not whole.
	broken error
	// last says that the connection ends with it.
	last bool
}

// refused reports an answer by which nothing was let through and nothing tidied up.
func (a answer) refused() bool { return a.status >= 400 && a.status < 500 }

// dial opens a connection with TLS for a host; protocol is http/1.1 or h2.
func (k *knocker) dial(host, protocol string) (*tls.Conn, error) {
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: k.w.Roots, ServerName: host, NextProtos: []string{protocol}}}
	ctx, cancel := withPatience(k.t)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", k.w.EdgeAddr())
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), conn.SetDeadline(time.Now().Add(Patience))
}

// wire1 is an HTTP/1.1 connection.
type wire1 struct {
	*tls.Conn
	in *bufio.Reader
}

func (k *knocker) wire1(host string) *wire1 {
	k.t.Helper()
	conn, err := k.dial(host, "http/1.1")
	if err != nil {
		k.t.Fatalf("dial %s: %v", host, err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	return &wire1{conn, bufio.NewReader(conn)}
}

// read takes one answer to a request by method.
func (c *wire1) read(method string) (answer, error) {
	var a answer
	for {
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			return a, err
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			a.early = append(a.early, resp.StatusCode)
			continue
		}
		a.status, a.header, a.last = resp.StatusCode, resp.Header, resp.Close
		var text []byte
		if resp.StatusCode != http.StatusSwitchingProtocols {
			text, a.broken = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		}
		a.body, a.trailer = string(text), resp.Trailer
		return a, nil
	}
}

// closed reports whether the edge ends the connection, rather than waiting for more.
func (c *wire1) closed() bool {
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err := c.in.Peek(1)
	var slow interface{ Timeout() bool }
	return err != nil && (!errors.As(err, &slow) || !slow.Timeout())
}

// send writes bytes on a connection of its own and reads the first answer.
func (k *knocker) send(bytes string) (answer, error) {
	conn, err := k.dial(AppHost, "http/1.1")
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	c := &wire1{conn, bufio.NewReader(conn)}
	if _, err := io.WriteString(c, bytes); err != nil {
		return answer{}, err
	}
	method, _, _ := strings.Cut(bytes, " ")
	return c.read(method)
}

// must is send where an answer has to come.
func (k *knocker) must(bytes string) answer {
	k.t.Helper()
	a, err := k.send(bytes)
	if err != nil {
		k.t.Fatalf("%.80q: %v", bytes, err)
	}
	return a
}

// echoed is what the application says that it got.
type echoed struct {
	Method, RequestURI, QueryString, RemoteAddr, BodySHA256 string
	BodyBytes                                               int64
	Headers                                                 [][2]string
	Trailers                                                map[string]string
}

// values returns the values of a header at the application.
func (e echoed) values(name string) []string {
	var found []string
	for _, h := range e.Headers {
		if strings.EqualFold(h[0], name) {
			found = append(found, h[1])
		}
	}
	return found
}

func (k *knocker) echo(a answer) echoed {
	k.t.Helper()
	var e echoed
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != http.StatusOK {
		k.t.Fatalf("not an echo: %d %v: %.300s", a.status, err, a.body)
	}
	return e
}

// wire2 is an HTTP/2 connection.
type wire2 struct {
	*http2.Framer
	conn *tls.Conn
	text *hpack.Encoder
	head bytes.Buffer
	next uint32
}

func (k *knocker) wire2() *wire2 {
	k.t.Helper()
	conn, err := k.dial(AppHost, "h2")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	c := &wire2{conn: conn, next: 1}
	c.Framer, c.text = http2.NewFramer(conn, bufio.NewReader(conn)), hpack.NewEncoder(&c.head)
	c.ReadMetaHeaders, c.AllowIllegalWrites = hpack.NewDecoder(4096, nil), true
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		k.t.Fatal(err)
	}
	if err := errors.Join(c.WriteSettings(), c.WriteWindowUpdate(0, 1<<24)); err != nil {
		k.t.Fatal(err)
	}
	return c
}

// usual are the fields of a well-meant request.
func (k *knocker) usual(method, target string, more ...[2]string) [][2]string {
	return append([][2]string{
		{":method", method},
		{":scheme", "https"},
		{":authority", k.host()},
		{":path", target},
		{"sallyport-access-token", k.token},
	}, more...)
}

func (c *wire2) block(fields [][2]string) []byte {
	c.head.Reset()
	for _, f := range fields {
		_ = c.text.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return bytes.Clone(c.head.Bytes())
}

// open sends a head and returns its stream.
func (c *wire2) open(fields [][2]string, end bool) (uint32, error) {
	stream := c.next
	c.next += 2
	block := c.block(fields)
	first := block[:min(len(block), 16<<10)]
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(block)})
	for rest := block[len(first):]; err == nil && len(rest) > 0; {
		part := rest[:min(len(rest), 16<<10)]
		rest = rest[len(part):]
		err = c.WriteContinuation(stream, len(rest) == 0, part)
	}
	return stream, err
}

// errReset and errGoAway end a stream and a connection without an answer.
var (
	errReset  = errors.New("the stream was reset")
	errGoAway = errors.New("the connection was ended")
)

// read takes frames until a stream's answer is whole, or over.
func (c *wire2) read(stream uint32) (answer, error) {
	a := answer{header: http.Header{}, trailer: http.Header{}}
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return a, err
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < stream {
				return a, fmt.Errorf("%w: %s", errGoAway, f.ErrCode)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream && a.status != 0 {
				a.broken = fmt.Errorf("%w: %s", errReset, f.ErrCode)
				return a, nil
			} else if f.StreamID == stream {
				return a, fmt.Errorf("%w: %s", errReset, f.ErrCode)
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream && c.headers(&a, f) {
				return a, nil
			}
		case *http2.DataFrame:
			if n := uint32(len(f.Data())); n > 0 {
				err = errors.Join(c.WriteWindowUpdate(0, n), c.WriteWindowUpdate(f.StreamID, n))
			}
			if f.StreamID == stream {
				a.body += string(f.Data())
				if f.StreamEnded() {
					return a, nil
				}
			}
		}
		if err != nil {
			return a, err
		}
	}
}

// headers adds a block to an answer and reports whether the answer is over.
func (c *wire2) headers(a *answer, f *http2.MetaHeadersFrame) bool {
	into := a.header
	if a.status != 0 {
		into = a.trailer
	} else if status, _ := strconv.Atoi(f.PseudoValue("status")); status < 200 {
		a.early = append(a.early, status)
		return false
	} else {
		a.status = status
	}
	for _, field := range f.RegularFields() {
		into.Add(field.Name, field.Value)
	}
	return f.StreamEnded()
}

// ask sends a head that ends the stream, and reads the answer.
func (c *wire2) ask(fields [][2]string) (answer, error) {
	stream, err := c.open(fields, true)
	if err != nil {
		return answer{}, err
	}
	return c.read(stream)
}

// settled returns Tomcat's log once nothing is added to it any more: a line may be written after its answer has arrived.
func (k *knocker) settled() []string {
	k.t.Helper()
	log := k.tomcat.AccessLog(k.t)
	for {
		<-time.After(30 * time.Millisecond)
		again := k.tomcat.AccessLog(k.t)
		if len(again) == len(log) {
			return log
		}
		log = again
	}
}

// untouched runs f and fails if anything of it reached the application.
func (k *knocker) untouched(f func()) {
	k.t.Helper()
	before := len(k.settled())
	f()
	if after := k.settled()[before:]; len(after) != 0 {
		k.t.Errorf("reached the application: %q", after)
	}
}

// reached runs f and returns the targets that reached the application.
func (k *knocker) reached(f func()) []string {
	k.t.Helper()
	before := len(k.settled())
	f()
	var targets []string
	for _, line := range k.settled()[before:] {
		if _, request, ok := strings.Cut(line, `"`); ok {
			request = strings.TrimSuffix(strings.TrimSuffix(request, `"`), " HTTP/1.1")
			if _, target, ok := strings.Cut(request, " "); ok {
				request = target
			}
			targets = append(targets, request)
		}
	}
	slices.Sort(targets)
	return targets
}
