package egress

import (
	"fmt"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 200 OK\r\n\r\n": "200",
		"HTTP/1.0 200 Connection established\r\nContent-Length: 9\r\n\r\n": "200",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n":             "204",
		"HTTP/1.1 407 Auth\r\nContent-Length: 2\r\n\r\nhi":                 "407",
		"HTTP/1.1 200 OK\r\n\r\nearly":                                     "sent bytes before",
		"HTTP/1.1 101 Switching\r\n\r\n":                                   "switched protocols",
		"SSH-2.0-OpenSSH\r\n":                                              "no HTTP",
		"":                                                                 "no HTTP",
		"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", maxHead) + "\r\n\r\n": "longer than",
		strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10):                  "without end",
	} {
		status, _, err := answer(strings.NewReader(text))
		if got := fmt.Sprint(status, err); !strings.Contains(got, want) {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
}

func TestAddressShowsNoPassword(t *testing.T) {
	var a Address
	if err := a.UnmarshalText([]byte("http://clinic:s3cret@proxy.example:3128")); err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(a), fmt.Sprintf("%+v %#v", a, a), fmt.Sprintf("%+v", struct{ P Address }{a})} {
		if strings.Contains(shown, "s3cret") || !strings.Contains(shown, "proxy.example") {
			t.Error(shown)
		}
	}
	for _, bad := range []string{"proxy:s3cret", "ftp://s3cret@x", "http://", "http://h:99999", "http://s3cret\x7f@h", "http://h/path?s3cret", "socks4://h"} {
		if err := a.UnmarshalText([]byte(bad)); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n\r\n")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		status, _, err := answer(strings.NewReader(text))
		if err == nil && status < 200 || err != nil && status != 0 {
			t.Errorf("%d, %v", status, err)
		}
	})
}
