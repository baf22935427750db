package egress

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxHead is how long the head of the proxy's answer may be.
	maxHead = 16 << 10
	// maxInterim is how many 1xx answers may come before the answer.
	maxInterim = 4
)

// errEarly: the client speaks first in TLS, so whatever follows the answer at once is not the edge's.
var errEarly = errors.New("it sent bytes before the connection was used")

// connect asks for a tunnel to address on conn (RFC 9110 §9.3.6) and returns when conn is that tunnel.
func connect(ctx context.Context, conn net.Conn, u *url.URL, address string) error {
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &Error{Proxy: u.Host, Kind: Protocol, Words: "does not answer as an HTTP proxy", Err: err}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err := io.WriteString(conn, request(u, address))
	var status int
	var head http.Header
	if err == nil {
		status, head, err = answer(conn)
	}
	if !stop() || err != nil {
		return fail(err)
	}
	if status >= 200 && status < 300 {
		return nil
	}
	return refusal(u, address, status, head)
}

func request(u *url.URL, address string) string {
	text := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: sallyport-connector\r\n"
	if u.User != nil {
		password, _ := u.User.Password()
		// RFC 7617 §2.
		text += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	return text + "\r\n"
}

// answer reads the head of the proxy's final answer, and nothing behind it.
func answer(r io.Reader) (status int, head http.Header, err error) {
	limited := &io.LimitedReader{R: r, N: maxHead}
	reader := bufio.NewReader(limited)
	for range maxInterim + 1 {
		// A 2xx answer to CONNECT has no body whatever its fields say; ReadResponse knows that by the method.
		resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // the connection's owner closes it
		switch {
		case err != nil && limited.N <= 0:
			return 0, nil, fmt.Errorf("the head of its answer is longer than %d bytes", maxHead)
		case err != nil:
			return 0, nil, errors.New("its answer is no HTTP: " + printable(err.Error(), 120))
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return 0, nil, errors.New("it switched protocols without being asked")
		case resp.StatusCode < 200:
			continue
		case resp.StatusCode < 300 && reader.Buffered() > 0:
			return 0, nil, errEarly
		}
		return resp.StatusCode, resp.Header, nil
	}
	return 0, nil, errors.New("it answers without end")
}

func refusal(u *url.URL, address string, status int, head http.Header) error {
	e := &Error{Proxy: u.Host, Status: status, Kind: Upstream}
	switch status {
	case http.StatusProxyAuthRequired:
		e.Kind, e.Words = Credentials, credentials(u, head)
	case http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUnauthorized, http.StatusUnavailableForLegalReasons:
		e.Kind, e.Words = Denied, fmt.Sprintf("does not allow connections to %s (status %d)", address, status)
	case http.StatusBadRequest, http.StatusNotFound, http.StatusNotImplemented:
		e.Kind, e.Words = Protocol, fmt.Sprintf("does not understand CONNECT (status %d); is it an HTTP proxy at all?", status)
	default:
		e.Words = fmt.Sprintf("could not connect to %s (status %d)", address, status)
	}
	return e
}

func credentials(u *url.URL, head http.Header) string {
	var offered []string
	basic := false
	for _, challenge := range head.Values("Proxy-Authenticate") {
		scheme, _, _ := strings.Cut(challenge, " ")
		basic = basic || strings.EqualFold(scheme, "Basic")
		offered = append(offered, printable(scheme, 20))
	}
	switch {
	case len(offered) > 0 && !basic:
		return "wants a login of a kind that a service cannot do (" + strings.Join(offered[:min(4, len(offered))], ", ") + ", status 407)"
	case u.User != nil:
		return "does not accept the user name and password that are configured (status 407)"
	}
	return "wants a user name and password (status 407)"
}

// printable keeps what the proxy says short and harmless for a log or a terminal.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, s)
	return s[:min(limit, len(s))]
}
