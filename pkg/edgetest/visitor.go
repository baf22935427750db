package edgetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Visitor is a person at a browser, as far as HTTP shows one: cookies, the Fetch Metadata of what they do, redirects that
// are followed. It runs no scripts; tests of pages use a real browser.
type Visitor struct {
	Client *http.Client
	// Email is who has signed in.
	Email     string
	transport *http.Transport
}

// VisitorConfig says where the edge is.
type VisitorConfig struct {
	// Edge is the address that every host is reached at.
	Edge string
	// Roots holds the edge's CA.
	Roots *x509.CertPool
	// Source is the local address to come from, or nil.
	Source net.IP
	// HTTP1 keeps to HTTP/1.1.
	HTTP1 bool
}

// NewVisitor returns a visitor with an empty cookie jar.
func NewVisitor(c VisitorConfig) *Visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // New with nil options never fails
	}
	dialer := &net.Dialer{}
	if c.Source != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: c.Source}
	}
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: c.Roots},
		ForceAttemptHTTP2:  !c.HTTP1,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, c.Edge)
		},
	}
	return &Visitor{transport: transport, Client: &http.Client{
		Jar: jar, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops the visitor's connections.
func (v *Visitor) Close() { v.transport.CloseIdleConnections() }

// Unsent reports whether err says of a request that nothing of it was sent: over HTTP/2, the connection was told to go away after
// net/http had chosen it and before the request was on it. A browser takes another one without a word; net/http has closed the
// body by then, and cannot. Over HTTP/1.1 the same words may mean a connection that was closed under a request: never there.
func (v *Visitor) Unsent(err error) bool {
	return err != nil && v.transport != nil && v.transport.ForceAttemptHTTP2 &&
		strings.HasSuffix(err.Error(), "cannot rewind body after connection loss")
}

// Navigate opens url as if it was typed into the address bar, and follows redirects.
func (v *Visitor) Navigate(ctx context.Context, to string) (*http.Response, error) {
	return v.navigate(ctx, http.MethodGet, to, "", nil, "none")
}

// Submit sends a form from a page of the same origin, and follows redirects.
func (v *Visitor) Submit(ctx context.Context, to string, form url.Values) (*http.Response, error) {
	return v.navigate(ctx, http.MethodPost, to, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), "same-origin")
}

// Fetch sends a request as a script of the page at the same origin would; redirects are not followed.
func (v *Visitor) Fetch(ctx context.Context, method, to string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	return v.Client.Do(req)
}

func (v *Visitor) navigate(ctx context.Context, method, to, contentType string, body io.Reader, site string) (*http.Response, error) {
	for range 10 {
		req, err := http.NewRequestWithContext(ctx, method, to, body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "text/html,application/xhtml+xml")
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		req.Header.Set("Sec-Fetch-Dest", "document")
		req.Header.Set("Sec-Fetch-Site", site)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := v.Client.Do(req)
		if err != nil {
			return nil, err
		}
		next, err := resp.Location()
		if errors.Is(err, http.ErrNoLocation) || resp.StatusCode < 300 || resp.StatusCode > 399 {
			return resp, nil
		}
		_ = resp.Body.Close()
		// A redirect to a sibling host is same-site for what follows, unless the person typed the address themselves.
		if next.Host != req.URL.Host && site != "none" {
			site = "same-site"
		}
		method, to, contentType, body = http.MethodGet, next.String(), "", nil
	}
	return nil, fmt.Errorf("more than 10 redirects, last to %s", to)
}

// hidden finds the sealed destination that the sign-in forms carry along.
var hidden = regexp.MustCompile(`name="to" value="([^"]*)"`)

// SignIn goes to app, through the sign-in host with the code that code returns, and back. It returns the page of the app.
func (v *Visitor) SignIn(ctx context.Context, app, email string, code func(context.Context) (string, error)) (*http.Response, error) {
	resp, err := v.Navigate(ctx, app)
	if err != nil {
		return nil, err
	}
	form, err := v.form(resp)
	if err != nil {
		return nil, err
	}
	v.Email = email
	form.Set("email", email)
	if resp, err = v.Submit(ctx, resp.Request.URL.ResolveReference(&url.URL{Path: "/email"}).String(), form); err != nil {
		return nil, err
	}
	if form, err = v.form(resp); err != nil {
		return nil, err
	}
	digits, err := code(ctx)
	if err != nil {
		return nil, err
	}
	form.Set("code", digits)
	return v.Submit(ctx, resp.Request.URL.ResolveReference(&url.URL{Path: "/code"}).String(), form)
}

func (v *Visitor) form(resp *http.Response) (url.Values, error) {
	page, err := ReadAll(resp)
	if err != nil {
		return nil, err
	}
	form := url.Values{}
	if to := hidden.FindStringSubmatch(page); to != nil {
		form.Set("to", to[1])
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %.300s", resp.Request.URL.Host, resp.Status, page)
	}
	return form, nil
}

// ReadAll reads and closes a body of at most 1 MiB.
func ReadAll(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(text), err
}

// Cookie returns the value of the visitor's cookie for a URL, or "".
func (v *Visitor) Cookie(at, name string) string {
	u, err := url.Parse(at)
	if err != nil {
		return ""
	}
	for _, c := range v.Client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// Patience bounds whatever a test waits for.
const Patience = 20 * time.Second
