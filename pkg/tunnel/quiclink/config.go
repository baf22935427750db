// Package quiclink owns links over QUIC: dialing, listening, streams, and what QUIC's errors mean for a link. It is the
// only home of quic-go, whose API changes in most of its minor versions; so browsers that speak HTTP/3 on the same socket are
// served here, by a handler that the Listener is given. It knows no frames and no hosts.
package quiclink

import (
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
)

// Config holds the limits of links. The zero value has the defaults; both sides must agree on none of them.
type Config struct {
	// Idle is how long a silent peer is believed to live; default 9.5 s.
	Idle time.Duration
	// KeepAlive is how long nothing may come before the peer is asked to say something; default 7 s, which heartbeats every 6 s make
	// needless. QUIC takes half of what either side announces as its idle time if that is less.
	KeepAlive time.Duration
	// Handshake bounds the time to the peer's first answer; default 5 s. The whole handshake may take twice as long.
	Handshake time.Duration
	// ALPN is the protocol that both sides name; default tunnel.ALPN.
	ALPN string
	// MaxIncoming is how many streams the peer may have open at once. Default: 4,096 on the side that dialled, because
	// an edge opens one per exchange, and 256 on the side that listens.
	MaxIncoming int
	// StreamWindow is how many bytes of one stream may be held that nobody reads, LinkWindow of all of a link's; default 1 and 96 MiB.
	// Once LinkWindow is full everything on the link waits.
	StreamWindow, LinkWindow int64
	// RetryAbove is the rate of handshakes a second above which a listener makes each new source prove its address
	// first (RFC 9000 §8.1.2), so that forged sources cost us no state and nobody amplification; default 64. With Enter it does so
	// too while connections without a proof hold 16 places.
	RetryAbove int
	// StatelessResetKey lets a restarted listener tell peers at once that their links are gone (RFC 9000 §10.3). Keep
	// it across restarts; nil turns it off. Never set it for a dialer: its socket answers no stranger.
	StatelessResetKey *[32]byte
	// ConnectionID makes a connection ID of a listener's side, always of one length; nil: random ones of 4 bytes. It lets
	// several processes share a socket (package udpshare).
	ConnectionID func() []byte
	// TokenKey seals address tokens; keep it across restarts. nil: random.
	TokenKey *[32]byte
	// Enter takes a place for a connection before its handshake, browsers' included, or says that there is none: then the
	// peer is refused (RFC 9000 §20.1, CONNECTION_REFUSED) and costs no more than its first packet. leave is called when the
	// link is admitted or the connection has ended, for browsers after the handshake; perhaps more than once. nil: always.
	// Ignored by a dialer.
	Enter func(remote net.Addr) (leave func(), ok bool)
	// Repairs counts packets that are made good; nil: nobody does.
	Repairs *fec.Metrics
	// HTTP3, if set, lets a listener serve browsers on the same socket. Ignored by a dialer.
	HTTP3 *HTTP3
}

const (
	dialerStreams   = 4096
	listenerStreams = 256
	// watchEvery is how often a link looks whether its peer was heard, restEvery how often one whose peer was heard lately and says little.
	watchEvery = 500 * time.Millisecond
	restEvery  = 2500 * time.Millisecond

	// Receive windows. One stream may hold 1 MiB that nobody reads. The link's window is no second limit on that but a
	// bound far above it: bodies that wait for their turn at the origin, or for browsers that have stopped reading, must
	// not take the credit that everybody else's heads need. It is large from the first byte, because QUIC raises it only
	// while much is being read; what a stranger may use of it is heldTraffic.
	streamWindowFirst = 128 << 10
	streamWindow      = 1 << 20
	linkWindow        = 96 << 20

	// heldTraffic is how many bytes may arrive on a link before Admit, the handshake's included. Looked at every heldEvery,
	// so that what strangers make us buffer is bounded by what the line brings in that time.
	heldTraffic = 64 << 10
	heldEvery   = 50 * time.Millisecond

	// packetSize is what a path with an MTU of 1,280, the least that IPv6 allows, lets through (with 40 and 8 bytes of headers).
	// It stays: quic-go's path MTU discovery only ever raises it. Where the path narrows in a link's life, as at a change of
	// the line to one over LTE or a VPN, which neither side is told of behind a NAT, large packets would be lost from then
	// on without an end while pings keep the link alive.
	packetSize = 1232
)

func (c Config) withDefaults(streams int) Config {
	c.Idle = orDefault(c.Idle, 9500*time.Millisecond)
	c.KeepAlive = orDefault(c.KeepAlive, 7*time.Second)
	c.Handshake = orDefault(c.Handshake, 5*time.Second)
	c.MaxIncoming = orDefault(c.MaxIncoming, streams)
	c.RetryAbove = orDefault(c.RetryAbove, 64)
	c.StreamWindow = orDefault(c.StreamWindow, streamWindow)
	c.LinkWindow = orDefault(c.LinkWindow, linkWindow)
	if c.ALPN == "" {
		c.ALPN = tunnel.ALPN
	}
	return c
}

// silence is how long nothing may arrive before the link ends. It is below Idle on purpose: when QUIC's own idle timer
// fires, the connection ends without a word (RFC 9000 §10.1), and a peer whose packets are lost in one direction only
// would go on for another Idle. We end first, and say so.
func (c Config) silence() time.Duration { return c.Idle - min(c.KeepAlive/2, time.Second) }

// announced is the idle time that the peer is told: quic-go asks for a sign of life after half of the smaller one at the latest.
func (c Config) announced() time.Duration { return max(c.Idle, 2*c.KeepAlive) }

func (c Config) quic() *quic.Config {
	conf := &quic.Config{
		HandshakeIdleTimeout:           c.Handshake,
		MaxIdleTimeout:                 c.announced(),
		KeepAlivePeriod:                c.KeepAlive,
		MaxIncomingStreams:             int64(c.MaxIncoming),
		MaxIncomingUniStreams:          -1,
		InitialStreamReceiveWindow:     min(streamWindowFirst, uint64(c.StreamWindow)),
		MaxStreamReceiveWindow:         uint64(c.StreamWindow),
		InitialConnectionReceiveWindow: uint64(c.LinkWindow),
		MaxConnectionReceiveWindow:     uint64(c.LinkWindow),
		InitialPacketSize:              packetSize,
		DisablePathMTUDiscovery:        true,
		EnableDatagrams:                true,  // for Probe; what comes is dropped once quic-go's short queue is full
		Allow0RTT:                      false, // replayable; nothing we send may be
	}
	if c.HTTP3 != nil {
		conf.MaxIdleTimeout = max(c.announced(), browserIdle)
		conf.KeepAlivePeriod = max(c.KeepAlive, browserPing)
		conf.MaxIncomingUniStreams = browserUni
		// No more than may be at work, so that what waits for a place is bounded too.
		conf.MaxIncomingStreams = min(conf.MaxIncomingStreams, int64(c.HTTP3.withDefaults().MaxStreams))
	}
	return conf
}

func orDefault[T ~int | ~int64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}
