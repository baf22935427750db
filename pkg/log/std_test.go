package log_test

import (
	"bytes"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/log"
)

// lines is a log that a test waits for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	come chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.come <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An origin that says more than it was asked makes net/http quote it to the standard logger.
func TestWhatALibraryQuotesIsNotLogged(t *testing.T) {
	out := &lines{come: make(chan struct{}, 1)}
	logger, err := log.New(out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	std := stdlog.Default()
	before, flags := std.Writer(), std.Flags()
	std.SetOutput(log.Std(logger))
	std.SetFlags(0)
	defer func() { std.SetOutput(before); std.SetFlags(flags) }()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	more := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		<-more
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\nHIN 9876543217 Maple, Ann"))
		_, _ = c.Read(make([]byte, 1)) // until the client hangs up
	}()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(bytes.Buffer).ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	close(more)
	select {
	case <-out.come:
	case <-time.After(10 * time.Second):
		t.Fatal("net/http says nothing any more: is the writer needed?")
	}
	if text := out.String(); strings.Contains(text, "9876543217") || !strings.Contains(text, "Unsolicited response") {
		t.Errorf("logged %s", text)
	}
}

// The errors of net/http for answers that are none repeat them.
func TestWhatAnErrorQuotesIsCutOff(t *testing.T) {
	const chart = "HIN 9876543217"
	for _, answer := range []string{
		chart + "\r\n\r\n", "HTTP/1.1 " + chart + "\r\n\r\n", "HTTP/1.1 200 OK\r\n" + chart + "\r\n\r\n", "HTTP/1.1 200 OK\r\n " + chart + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: " + chart + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + chart + "\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chart + "\r\n",
		chart + "/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX: \x00" + chart + "\r\n\r\n",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(answer))
				_ = c.Close()
			}
		}()
		transport := &http.Transport{DisableKeepAlives: true}
		r, err := http.NewRequest(http.MethodGet, "http://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err == nil {
			_, err = new(bytes.Buffer).ReadFrom(resp.Body)
			_ = resp.Body.Close()
		}
		_ = l.Close()
		if err == nil {
			t.Errorf("%q is an answer to net/http", answer)
		} else if words := log.Unquoted(err.Error()); strings.Contains(words, "9876543217") || words == "" {
			t.Errorf("%q: %s", answer, words)
		}
	}
}
