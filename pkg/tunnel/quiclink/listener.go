package quiclink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
)

// Listener accepts links on one UDP socket, through one quic.Transport, and serves browsers there if it is told to: the
// protocol that a client names (ALPN) decides.
type Listener struct {
	conf      Config
	transport *quic.Transport
	listener  *quic.Listener
	browsers  *browsers   // nil without HTTP/3
	repairs   *fec.Socket // nil where packets are not repaired
	closeOnce sync.Once
	// unproved are the places that are held by connections whose address nobody has proved.
	unproved atomic.Int64
}

// maxUnproved is how many places those may hold: whoever forges addresses has one each, and would shut the door for all links with a
// dozen packets a second, far below RetryAbove. Beyond that an address is proved first, a round trip more.
const maxUnproved = 16

var _ tunnel.Listener = (*Listener)(nil)

// NewListener listens on socket, which the caller closes after the Listener. tlsConf is cloned and held to TLS 1.3; where
// it names no protocols it gets Config.ALPN. One quic.Config serves all protocols of a socket, so what a connector may
// open is capped where links accept streams, too.
func NewListener(socket net.PacketConn, tlsConf *tls.Config, conf Config) (*Listener, error) {
	conf = conf.withDefaults(listenerStreams)
	tlsConf = tlsConf.Clone()
	tlsConf.MinVersion = tls.VersionTLS13
	if len(tlsConf.NextProtos) == 0 {
		tlsConf.NextProtos = []string{conf.ALPN}
		if conf.HTTP3 != nil {
			tlsConf.NextProtos = append(tlsConf.NextProtos, ALPNHTTP3)
		}
	}
	handshakes := rate.NewLimiter(rate.Limit(conf.RetryAbove), conf.RetryAbove)
	conn, repairs := fec.Wrap(socket, conf.Repairs)
	l := &Listener{conf: conf, repairs: repairs, transport: &quic.Transport{
		Conn:              conn,
		StatelessResetKey: (*quic.StatelessResetKey)(conf.StatelessResetKey),
		TokenGeneratorKey: (*quic.TokenGeneratorKey)(conf.TokenKey),
	}}
	l.transport.VerifySourceAddress = func(net.Addr) bool { return !handshakes.Allow() || l.unproved.Load() >= maxUnproved }
	if conf.Enter != nil {
		l.transport.ConnContext = l.enter
	}
	if conf.HTTP3 != nil {
		l.browsers = newBrowsers(*conf.HTTP3)
	}
	if conf.ConnectionID != nil {
		l.transport.ConnectionIDGenerator = connectionIDs(conf.ConnectionID)
	}
	var err error
	if l.listener, err = l.transport.Listen(tlsConf, conf.quic()); err != nil {
		return nil, fmt.Errorf("quic listen: %w", err)
	}
	return l, nil
}

// Accept implements tunnel.Listener; browsers that arrive meanwhile are served in goroutines of their own. It returns
// net.ErrClosed after Close.
func (l *Listener) Accept(ctx context.Context) (tunnel.Link, error) {
	for {
		conn, err := l.listener.Accept(ctx)
		switch {
		case errors.Is(err, quic.ErrServerClosed), errors.Is(err, quic.ErrTransportClosed):
			return nil, net.ErrClosed
		case err != nil:
			return nil, fmt.Errorf("quic accept: %w", err)
		}
		leave := placeOf(conn)
		switch protocol := conn.ConnectionState().TLS.NegotiatedProtocol; {
		case protocol == l.conf.ALPN:
			return newLink(conn, l.conf, l.repairs, leave, nil), nil
		case protocol == ALPNHTTP3 && l.browsers != nil:
			leave()
			l.browsers.serve(conn)
			continue
		}
		code, text := tunnel.Reason{Code: tunnel.ReasonRefused, Message: "no such protocol here"}.Wire()
		_ = conn.CloseWithError(quic.ApplicationErrorCode(code), text)
	}
}

// placeKey is under which a connection's context has what gives its place back.
type placeKey struct{}

var errNoPlace = errors.New("no place for another connection")

// enter is a quic.Transport's ConnContext: it is asked before anything is done for a connection.
func (l *Listener) enter(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	leave, ok := l.conf.Enter(client.RemoteAddr)
	if !ok {
		return nil, errNoPlace
	}
	if !client.AddrVerified {
		place := leave
		l.unproved.Add(1)
		leave = sync.OnceFunc(func() {
			l.unproved.Add(-1)
			place()
		})
	}
	context.AfterFunc(ctx, leave)
	return context.WithValue(ctx, placeKey{}, leave), nil
}

func placeOf(conn *quic.Conn) (leave func()) {
	if leave, ok := conn.Context().Value(placeKey{}).(func()); ok {
		return leave
	}
	return func() {}
}

// Addr is the address of the socket.
func (l *Listener) Addr() net.Addr { return l.transport.Conn.LocalAddr() }

// DrainHTTP3 takes no further requests from browsers and waits for those at work until ctx ends.
func (l *Listener) DrainHTTP3(ctx context.Context) {
	if l.browsers != nil {
		l.browsers.drain(ctx)
	}
}

// CloseHTTP3 ends the connections of browsers and returns when their handlers have.
func (l *Listener) CloseHTTP3() {
	if l.browsers != nil {
		l.browsers.close()
	}
}

// Close stops listening and cuts every link that was accepted here without a word: close links first, with their
// reasons. The socket stays open.
func (l *Listener) Close() error {
	var err error
	l.closeOnce.Do(func() {
		l.CloseHTTP3()
		err = errors.Join(l.listener.Close(), l.transport.Close())
	})
	return err
}

// connectionIDs makes a quic.ConnectionIDGenerator of Config.ConnectionID.
type connectionIDs func() []byte

var _ quic.ConnectionIDGenerator = connectionIDs(nil)

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (f connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	return quic.ConnectionIDFromBytes(f()), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (f connectionIDs) ConnectionIDLen() int { return len(f()) }
