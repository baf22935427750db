// Package wslink owns links over TCP: yamux over the binary messages of one WebSocket over TLS 1.3, HTTP/1.1 only. It is
// the only home of yamux and of the WebSocket library. It knows no proxies and no frames. Where a firewall opens TLS it makes the
// connection under all of that inside another WebSocket (inner.go).
//
// What yamux lacks, and where it is made up for:
//   - It has no reset, and Close is a half-close only: control.go carries resets on the first stream of the session,
//     beside the streams, so that they reach a peer that writes and never reads, and overtake unread bytes.
//   - It ends streams of a dead session with io.EOF, as if they were whole: stream.go tells the two apart.
//   - It writes a frame's header and payload apart: conn.go and outlet.go gather them in one message.
//   - It limits nothing but its backlog: link.go caps streams.
//   - Its keep-alive takes a saturated link for a dead one: watch.go judges by what arrives.
//   - Its Close does not close the TCP connection under every condition: link.go does.
package wslink

import (
	"io"
	"log"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Path is where an edge serves the tunnel; Subprotocol is what both sides must name (RFC 6455 §1.9).
const (
	Path        = "/.sallyport/tunnel"
	Subprotocol = "sallyport.v1"
	// LaneField is how the side that dials says in the handshake's request what the link is for, LaneBulk: the windows of
	// streams are chosen before Hello is there. Without the field, or with any other value, the link is shared.
	LaneField, LaneBulk = "Sallyport-Lane", "bulk"
)

// What Config.Congestion may be, beside any other name that the kernel knows.
const (
	CongestionBBR    = tunnel.CongestionBBR
	CongestionSystem = "system"
)

// Config holds the limits of links. The zero value has the defaults.
type Config struct {
	// Ping is how long the peer may say nothing before it is asked to; default 6.5 s. An idle link with a heartbeat every 6 s
	// needs that only to measure its round trip, once in 30 s.
	Ping time.Duration
	// Silence is how long nothing may arrive before the link ends; default 9 s. It must be longer than Ping by what
	// an answer may take.
	Silence time.Duration
	// WriteLimit is how long each 16 KiB of a write may wait for the TCP connection; default 4 s. What times out there leaves
	// half a message behind, so it ends the link.
	WriteLimit time.Duration
	// MaxIncoming is how many streams the peer may have open at once, MaxOutgoing how many this side opens before Open
	// waits. yamux announces no credit, so each side knows the other's limit: by default the side that dialled takes
	// 4,096 and opens 256, the side that accepted takes 256 and opens 4,096. A quarter more is taken, because the two
	// sides see a stream end at different times.
	MaxIncoming, MaxOutgoing int
	// Window is the receive window of a stream; default 1 MiB, right where small exchanges share the link, and 6 MiB on a
	// link for bulk alone (LaneField): yamux announces room when half of it is free, and on a line that loses packets what
	// arrives stands still for a round trip or two each time.
	Window uint32
	// Congestion is the TCP congestion control to ask the kernel for, on this link's socket alone; default "bbr", which keeps
	// its rate on lines that lose packets at random. "system" leaves the system's. What is not to be had is left.
	Congestion string
	// Admitted, if set, is called when the link is admitted.
	Admitted func()
}

const (
	sharedWindow, bulkWindow = 1 << 20, 6 << 20

	manyStreams = 4096
	fewStreams  = 256
	// backlog is how many streams may be on their way to the peer, opened and not yet seen there; yamux holds room for as many
	// of the peer's (8 bytes each) in every session. The peer takes them as they come, so it bounds a burst in one round trip.
	backlog = 256
	// maxChunk is the largest payload of a frame: one yamux Write blocks every other stream until it is through. With
	// yamux's header and the WebSocket's (8 bytes with its mask) it fills four TLS records.
	maxChunk = 64<<10 - yamuxHeader - 8
	// maxMessage is the largest WebSocket message taken from a peer.
	maxMessage = 64 << 10
	// closeLimit bounds the closing handshake.
	closeLimit = 800 * time.Millisecond
	// yamuxLimit is yamux's write limit. It also counts the time that a frame waits behind those of other streams, which
	// on a slow line with many writers is long without anything being wrong; Config.WriteLimit and Config.Silence are
	// what finds a dead connection.
	yamuxLimit = 30 * time.Second
)

func (c Config) withDefaults(incoming, outgoing int, bulk bool) Config {
	c.Ping = orDefault(c.Ping, 6500*time.Millisecond)
	c.Silence = orDefault(c.Silence, 9*time.Second)
	c.WriteLimit = orDefault(c.WriteLimit, 4*time.Second)
	c.MaxIncoming = orDefault(c.MaxIncoming, incoming)
	c.MaxOutgoing = orDefault(c.MaxOutgoing, outgoing)
	switch c.Congestion {
	case "":
		c.Congestion = CongestionBBR
	case CongestionSystem:
		c.Congestion = ""
	}
	window := uint32(sharedWindow)
	if bulk {
		window = bulkWindow
	}
	c.Window = max(orDefault(c.Window, window), 256<<10)
	return c
}

func (c Config) yamux() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          backlog,
		EnableKeepAlive:        false,
		KeepAliveInterval:      c.Ping,
		ConnectionWriteTimeout: yamuxLimit,
		MaxStreamWindowSize:    c.Window,
		StreamOpenTimeout:      0, // a peer that acknowledges nothing is silent, or only slow
		StreamCloseTimeout:     0, // else a half-closed stream is killed while the other half still flows
		Logger:                 log.New(io.Discard, "", 0),
	}
}

func orDefault[T ~int | ~int64 | ~uint32](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}
