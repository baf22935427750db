package wslink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/gather"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// dialLimit bounds one attempt: TCP, TLS and the upgrade.
const dialLimit = 15 * time.Second

// Dialer opens links over TCP.
type Dialer struct {
	Config Config
	// Connect opens the TCP connection to address; nil resolves and dials it directly. With it, address is the
	// target's host:port as it was given, so that something in between can resolve it.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
}

var _ tunnel.Dialer = (*Dialer)(nil)

// Transport is "websocket".
func (d *Dialer) Transport() string { return transportName }

// Dial implements tunnel.Dialer.
func (d *Dialer) Dial(ctx context.Context, target tunnel.Target) (tunnel.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if d.Connect != nil {
		host, port, err := target.HostPort()
		if err != nil {
			return nil, err
		}
		return d.dialAddress(ctx, target, d.Connect, net.JoinHostPort(host, fmt.Sprint(port)))
	}
	connect, address, err := target.Via()
	if err != nil {
		return nil, err
	}
	if connect != nil {
		return d.dialAddress(ctx, target, connect, address)
	}
	direct := (&net.Dialer{}).DialContext
	return tunnel.FirstAddress(ctx, target, func(ctx context.Context, remote netip.AddrPort) (tunnel.Link, error) {
		return d.dialAddress(ctx, target, direct, remote.String())
	})
}

type connectFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (d *Dialer) dialAddress(ctx context.Context, target tunnel.Target, connect connectFunc, address string) (_ tunnel.Link, err error) {
	conf := d.Config.withDefaults(manyStreams, fewStreams, target.Bulk)
	tlsConf := target.ClientTLS("http/1.1")
	tlsConf.DynamicRecordSizingDisabled = true // small first records help browsers, and split our frames
	socket, err := connect(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = socket.Close()
		}
	}()
	keepUnsentSmall(socket)
	congestion := askFor(socket, conf.Congestion)
	var inner *Inner
	if target.Outer != nil {
		if inner, err = Inside(ctx, target, socket); err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		socket = inner
	}
	secured := tls.Client(gather.NewConn(socket), tlsConf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, inner.explain(tlsError(err)))
	}
	out := newOutlet(secured, conf.WriteLimit, true)
	ws, err := upgrade(ctx, target, out, opening{Path, Subprotocol, lane(target.Bulk)})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	l, err := newLink(ws, out, socket, secured.ConnectionState(), conf, true)
	if err != nil {
		return nil, err
	}
	l.congestion, l.inner = congestion, inner
	return l, nil
}

// opening is what the request for a WebSocket asks for.
type opening struct {
	path, subprotocol string
	fields            http.Header
}

// upgrade makes the WebSocket handshake over c, which is connected, through a client that can use nothing else.
func upgrade(ctx context.Context, target tunnel.Target, c net.Conn, o opening) (*websocket.Conn, error) {
	authority := target.ClientTLS("").ServerName
	if target.URL != nil {
		authority = target.URL.Host
	}
	u := url.URL{Scheme: "https", Host: authority, Path: o.path}
	client := &http.Client{
		Transport: &http.Transport{
			DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
			DisableKeepAlives: true,
			Protocols:         http1(),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{ //nolint:bodyclose // Dial leaves none to close
		HTTPClient:      client,
		HTTPHeader:      o.fields,
		Subprotocols:    []string{o.subprotocol},
		CompressionMode: websocket.CompressionDisabled, // the streams carry secrets beside what others choose
	})
	switch {
	case err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, refused(resp)
	case err != nil:
		return nil, tlsError(err)
	case ws.Subprotocol() != o.subprotocol:
		_ = ws.CloseNow()
		return nil, &tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "this is a WebSocket, but no tunnel"}}
	}
	return ws, nil
}

// lane is what the handshake says of the link's purpose.
func lane(bulk bool) http.Header {
	if !bulk {
		return nil
	}
	return http.Header{LaneField: {LaneBulk}}
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// tlsError gives a refusal in TLS its reason, and leaves other errors as they are.
func tlsError(err error) error {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &op) && op.Op == "remote error":
		return closedError(err)
	case errors.As(err, &untrusted):
		return &tunnel.ClosedError{
			Reason: tunnel.Reason{Code: tunnel.ReasonRefused, Message: "the certificate on the way to the edge is not accepted here"}, Err: issuedBy(untrusted),
		}
	}
	return err
}

// issuedBy names who issued the certificate: where a firewall opens TLS, that is how people recognise it.
func issuedBy(err *tls.CertificateVerificationError) error {
	if len(err.UnverifiedCertificates) == 0 {
		return err
	}
	return fmt.Errorf("issued by %.100q: %w", err.UnverifiedCertificates[0].Issuer.String(), err)
}
