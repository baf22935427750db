// Package wire owns the bytes of the tunnel protocol: stream kinds, frames, heads, control messages, their limits and
// the codes that both sides share. It turns Go values into bytes and back, and refuses on both sides what must never
// travel as a head entry. proto/README.md draws the protocol.
//
// It does not know links or streams, keeps no state between two frames but buffers, starts no goroutine, and decides
// nothing: who may ask for what is the work of the packages above. HTTP types have no place here either.
package wire

import (
	"errors"
	"fmt"
	"io"
)

// Version is the protocol version that this code speaks; Hello.versions lists it.
const Version = 1

// Features that Hello.features may name. A feature that only one side names is not used.
const (
	// FeatureMoved: a body may go on on streams of other links (frames Moved, Continuation, Segment).
	FeatureMoved = "moved"
	// FeatureBBR, of the edge alone: it sends on this link's socket with BBR.
	FeatureBBR = "bbr"
	// FeatureProbe: the edge opens streams of kind StreamProbe, and tells when one was answered.
	FeatureProbe = "probe"
	// FeatureOnce, of the connector alone: it knows which requests it has had from other edges, and serves one that is sent again
	// (RequestHead.Again) at most once.
	FeatureOnce = "once"
	// FeatureBeat: heartbeats go the way of exchanges, on streams of kind StreamBeat that the edge opens.
	FeatureBeat = "beat"
	// FeatureRepair, of a link over QUIC: packets that the line loses are made good from repair packets (package fec).
	FeatureRepair = "repair"
)

// The first byte on every stream says what it carries. An unknown kind resets that stream, never the link.
const (
	StreamControl      byte = 1 // opened once, first, by the connector
	StreamExchange     byte = 2 // one request and its answer
	StreamContinuation byte = 3 // the rest of a moved body
	StreamProbe        byte = 4 // ProbeBytes that the connector sends back
	StreamBeat         byte = 5 // a probe that brings a Heartbeat back, and its answer
)

// ProbeBytes is how many bytes a probe carries.
const ProbeBytes = 8

// ErrProtocol is in the chain of every error that says that the peer broke the rules.
var ErrProtocol = errors.New("protocol violation")

// violation is an error of which ErrProtocol is the kind.
type violation struct{ text string }

func (v *violation) Error() string { return v.text }

func (v *violation) Is(target error) bool { return target == ErrProtocol }

func violationf(format string, args ...any) error {
	return &violation{text: fmt.Sprintf(format, args...)}
}

// WriteKind writes the kind byte of a stream. Exchanges send it with their head instead: see Writer.Kind.
func WriteKind(w io.Writer, kind byte) error {
	_, err := w.Write([]byte{kind})
	return err
}

// ReadKind reads the kind byte of a stream that the peer opened. It does not judge it.
func ReadKind(r io.Reader) (byte, error) {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return b[0], nil
}
