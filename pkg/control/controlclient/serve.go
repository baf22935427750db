package controlclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// The transports find a dead peer within 10 s. What is here is for a peer that lives and does not do its part, and must not
// mistake a saturated line, on which the control stream waits among the others, for one.
const (
	// writeTimeout bounds one message to the edge.
	writeTimeout = 20 * time.Second
	// patience is how many intervals a heartbeat may stay unanswered; half as many where they are twice as long, because beats are
	// to come instead.
	patience = 10
	// maxReason bounds what the edge is told of why rules were refused, bytes.
	maxReason = 1000
)

// Handlers act on what the edge says. Fields may be nil. They are called one at a time and must not block.
type Handlers struct {
	Revoke func(*tunnelv1.Revoke)
	Drain  func(within time.Duration)
	Edges  func(*tunnelv1.Edges)
	// Origins is asked for each heartbeat, perhaps by several goroutines at once.
	Origins func() []*tunnelv1.OriginHealth
}

// Serve sends heartbeats and handles what the edge sends, until the link ends or ctx does, which closes it. It returns why: a
// *RefusedError for a Goodbye, else the link's cause.
func (l *Link) Serve(ctx context.Context, h Handlers) error {
	var wg sync.WaitGroup
	var said error
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the connector stops"})
	})
	defer stop()
	if h.Origins != nil {
		l.origins.Store(&h.Origins)
	}
	wg.Go(func() {
		said = l.receive(h)
		l.closeAfter(said)
	})
	wg.Go(l.beat)
	<-l.Done()
	wg.Wait()
	var refused *RefusedError
	if errors.As(said, &refused) {
		return refused
	}
	return l.Cause()
}

func (l *Link) closeAfter(err error) {
	reason := tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "the control stream ended"}
	if errors.Is(err, errProtocol) {
		reason = tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "the edge broke the rules of the control stream"}
	}
	_ = l.Close(reason)
}

// beat sends heartbeats on the control stream while none go the way of exchanges; one that stays unanswered for patience intervals
// ends the link.
func (l *Link) beat() {
	timer := time.NewTimer(l.Heartbeat)
	defer timer.Stop()
	for {
		select {
		case <-l.Done():
			return
		case <-timer.C:
		}
		if spared := l.control.spared(l.Heartbeat * 3 / 2); spared > 0 {
			timer.Reset(spared)
			continue
		}
		timer.Reset(l.Heartbeat)
		if l.control.silent() > l.patience() {
			_ = l.Close(tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "heartbeats are not answered"})
			return
		}
		if l.control.stream.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil || l.control.heartbeat(l.heartbeat()) != nil {
			_ = l.Close(tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "heartbeats cannot be sent"})
			return
		}
	}
}

// RoundTrip tells when the last round trip over the exchange path ended, as far as the edge has told, and how long the last
// heartbeat took; zero before the first. With an edge that does not probe it is when a heartbeat was answered last.
func (l *Link) RoundTrip() (at time.Time, took time.Duration) { return l.control.roundTrip() }

// Leave tells the edge to send no more exchanges on this link; those that run go on.
func (l *Link) Leave(within time.Duration) error {
	return l.say(&tunnelv1.Control{Message: &tunnelv1.Control_Drain{Drain: &tunnelv1.Drain{WithinMs: uint32(max(within, 0).Milliseconds())}}})
}

// say sends a message to the edge within writeTimeout.
func (l *Link) say(m *tunnelv1.Control) error {
	if err := l.control.stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return l.control.send(m)
}

var errProtocol = errors.New("control stream")

func (l *Link) receive(h Handlers) error {
	for {
		m, err := l.control.read()
		if err != nil {
			return err
		}
		if err := l.handle(h, m); err != nil {
			return err
		}
	}
}

func (l *Link) handle(h Handlers, m *tunnelv1.Control) error {
	switch body := m.GetMessage().(type) {
	case nil: // a kind of a later version
	case *tunnelv1.Control_HeartbeatAck:
		l.acknowledged(body.HeartbeatAck)
	case *tunnelv1.Control_KeySet:
		// A set that does not hold changes nothing; the keys held before stay. Only the root key makes one that does.
		if err := l.cfg.Pinned.Update(body.KeySet.GetJwt(), l.cfg.Clock.Now()); err != nil && !errors.Is(err, token.ErrOlder) {
			return errors.Join(errProtocol, err)
		}
	case *tunnelv1.Control_Revoke:
		if h.Revoke != nil {
			h.Revoke(body.Revoke)
		}
	case *tunnelv1.Control_Drain:
		if h.Drain != nil {
			h.Drain(time.Duration(body.Drain.GetWithinMs()) * time.Millisecond)
		}
	case *tunnelv1.Control_Edges:
		if h.Edges != nil {
			h.Edges(body.Edges)
		}
	case *tunnelv1.Control_Configuration:
		return l.configure(body.Configuration)
	default:
		return errProtocol
	}
	return nil
}

func (l *Link) patience() time.Duration {
	if l.beats {
		return patience / 2 * l.Heartbeat
	}
	return patience * l.Heartbeat
}

func (l *Link) heartbeat() *tunnelv1.Heartbeat {
	var origins []*tunnelv1.OriginHealth
	if ask := l.origins.Load(); ask != nil {
		origins = (*ask)()
	}
	return l.cfg.heartbeat(origins)
}

// beatTimeout bounds what the edge lets a beat wait for.
const beatTimeout = 10 * time.Second

// Beat answers a stream of kind wire.StreamBeat, of which the kind has been read: it came as an exchange comes, brings a heartbeat
// back as an answer goes, and the edge says that it has it. An error leaves the stream to be reset.
func (l *Link) Beat(s tunnel.Stream) error {
	deadline := time.Now().Add(beatTimeout)
	if err := errors.Join(s.SetReadDeadline(deadline), s.SetWriteDeadline(deadline)); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(s, beatAhead)
	echo := make([]byte, wire.ProbeBytes)
	if _, err := io.ReadFull(reader, echo); err != nil {
		return err
	}
	answer := bytes.NewBuffer(echo) // in one write: on some links each is a packet
	if err := wire.WriteControl(answer, &tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: l.heartbeat()}}); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.Write(answer.Bytes()); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	m, err := wire.ReadControl(reader, wire.MaxControlHeld)
	if err != nil {
		return err
	}
	ack := m.GetHeartbeatAck()
	if ack == nil {
		return errProtocol
	}
	trip := time.Since(began)
	l.control.beat(trip)
	l.control.prove(time.Duration(ack.GetRoundTripAgeMs()) * time.Millisecond)
	l.setClock(ack, trip)
	if _, err := reader.ReadByte(); err != io.EOF { //nolint:errorlint // a wrapped EOF is an early end
		return errors.Join(errProtocol, err)
	}
	return nil
}

// beatAhead is enough for what the edge sends in a beat.
const beatAhead = 64

func (l *Link) acknowledged(ack *tunnelv1.HeartbeatAck) {
	if ack.RoundTripAgeMs != nil {
		l.control.prove(time.Duration(ack.GetRoundTripAgeMs()) * time.Millisecond)
	}
	trip := l.control.acknowledged(ack.GetSequence())
	l.setClock(ack, trip)
}

// setClock takes the edge's time from an answer that came after trip; 0 is not known.
func (l *Link) setClock(ack *tunnelv1.HeartbeatAck, trip time.Duration) {
	if trip > 0 && ack.GetEdgeTimeMs() >= earliestEdgeTime {
		l.cfg.Clock.set(ack.GetEdgeTimeMs() + (trip / 2).Milliseconds())
	}
}

// configure answers a pushed configuration.
func (l *Link) configure(c *tunnelv1.Configuration) error {
	err := ErrOwnFile
	if l.cfg.Rules != nil {
		err = l.cfg.Rules.Configure(c.GetVersion(), c.GetIngressYaml())
	}
	ack := &tunnelv1.ConfigurationAck{Version: c.GetVersion(), Accepted: err == nil, OwnFile: errors.Is(err, ErrOwnFile)}
	if err != nil {
		ack.Reason = strings.ToValidUTF8(clip(err.Error(), maxReason), "")
	}
	return l.say(&tunnelv1.Control{Message: &tunnelv1.Control_ConfigurationAck{ConfigurationAck: ack}})
}
