package controlclient

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

const (
	enrollPath    = "/.sallyport/enroll"
	enrollTimeout = 30 * time.Second
	maxAnswer     = 64 << 10
)

// Enrolled is what a good code brings.
type Enrolled struct {
	Connector id.Connector
	Tenant    id.Tenant
	Site      id.Site
	RootKey   ed25519.PublicKey
}

// Enroll spends a code at the edge and registers the public key. The edge's certificate is judged by target.TLS. A refused
// code is fault.Denied with the edge's words, an edge that is not reached fault.Unavailable.
func Enroll(ctx context.Context, target tunnel.Target, code string, key ed25519.PublicKey) (Enrolled, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"code": code, "public_key": base64.RawURLEncoding.EncodeToString(key)})
	if err != nil {
		return Enrolled{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.URL.JoinPath(enrollPath).String(), bytes.NewReader(body))
	if err != nil {
		return Enrolled{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{
		Transport: &http.Transport{DialContext: dialEdge(target), TLSClientConfig: target.ClientTLS("http/1.1"), DisableKeepAlives: true},
		// The code goes to the edge that was named, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		words := "the edge %s cannot be reached, or is not the one that the CA pin names"
		if target.Outer != nil {
			words = "inside the TLS that a firewall opens " + words
		}
		return Enrolled{}, fault.New(fault.Unavailable, words, target.URL.Host).Because(err)
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Enrolled{}, fault.New(fault.Unavailable, "the edge's answer broke off").Because(err)
	}
	if response.StatusCode != http.StatusOK {
		return Enrolled{}, enrollFault(response.StatusCode, text)
	}
	return parseEnrolled(text)
}

func enrollFault(status int, text []byte) error {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &said) != nil || said.Error == "" {
		return fault.New(fault.Unavailable, "%s", fmt.Sprintf("the edge answered with status %d", status))
	}
	words := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1 // nothing that a terminal obeys
		}
		return r
	}, clip(said.Error, 300))
	if status == http.StatusForbidden {
		return fault.New(fault.Denied, "%s", words)
	}
	return fault.New(fault.Unavailable, "%s", words)
}

func parseEnrolled(text []byte) (Enrolled, error) {
	var answer struct {
		Connector string `json:"connector"`
		Tenant    string `json:"tenant"`
		Site      string `json:"site"`
		RootKey   string `json:"root_key"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return Enrolled{}, fmt.Errorf("the edge's answer: %w", err)
	}
	root, err := base64.RawURLEncoding.Strict().DecodeString(answer.RootKey)
	tenant, errTenant := id.ParseLabel[id.Tenant]("tenant", answer.Tenant)
	site, errSite := id.ParseLabel[id.Site]("site", answer.Site)
	if err := errors.Join(err, errTenant, errSite); err != nil {
		return Enrolled{}, fmt.Errorf("the edge's answer: %w", err)
	}
	if len(root) != ed25519.PublicKeySize || !strings.HasPrefix(answer.Connector, "con_") {
		return Enrolled{}, errors.New("the edge's answer: no connector or no root key")
	}
	return Enrolled{Connector: id.Connector(answer.Connector), Tenant: tenant, Site: site, RootKey: root}, nil
}

// dialEdge resolves as links do, so that names under .localhost work, and goes inside a TLS that a firewall opens as they do.
func dialEdge(target tunnel.Target) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		socket, err := connect(ctx, target, network)
		if err != nil || target.Outer == nil {
			return socket, err
		}
		inner, err := wslink.Inside(ctx, target, socket)
		if err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		return inner, nil
	}
}

// connect opens a TCP connection to the edge's port.
func connect(ctx context.Context, target tunnel.Target, network string) (net.Conn, error) {
	via, address, err := target.Via()
	if err != nil {
		return nil, err
	}
	if via != nil {
		return via(ctx, network, address)
	}
	host, port, err := target.HostPort()
	if err != nil {
		return nil, err
	}
	addrs, err := tunnel.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range addrs {
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, netip.AddrPortFrom(addr, port).String())
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
