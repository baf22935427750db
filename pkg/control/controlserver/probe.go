package controlserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// A heartbeat on the control stream shows that this lives, and no more (attack case H15): a link is up while something goes the way
// of exchanges and comes back. Exchanges that are answered show it; on a quiet link a probe does. A beat is a probe of which the echo
// brings the heartbeat, and which is answered: one stream tells both sides all that they have to know.
const (
	// provedLately is how young a round trip has to be for a heartbeat on the control stream to bring no probe. With those every 3 s each
	// second one does, so that what is up was shown 7 s ago at most.
	provedLately = 4 * time.Second
	// probeTimeout is how long a probe may take; there is one at a time.
	probeTimeout = 8 * time.Second
	// probeLate and lateTrips, in round trips of the link, are how long a probe may be out before others are preferred.
	probeLate = 500 * time.Millisecond
	lateTrips = 4
)

// probing is what a link's probes share: there is one at a time.
type probing struct {
	mu     sync.Mutex  // guards all below; nothing is called under it
	under  bool        // a probe is under way
	wanted bool        // another one is to follow it
	ended  bool        // the link has ended: none is begun
	next   *time.Timer // sends the next beat; nil before the first, and where heartbeats come on the control stream
	all    sync.WaitGroup
}

// end returns when no probe is under way, and none will be. The link has ended, so that this is soon.
func (p *probing) end() {
	p.mu.Lock()
	p.ended = true
	if p.next != nil {
		p.next.Stop()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// probe sends a probe unless the link has shown lately that it works, and is in no doubt.
func (s *Server) probe(a *admission) {
	c := a.connector
	age, ok := s.cfg.Registry.TripAge(c.Tenant, c.Site, a.link)
	if !ok || age >= provedLately || s.cfg.Registry.Doubted(c.Tenant, c.Site, a.link) {
		s.probeNow(a)
	}
}

// probeNow sends a probe now or, if one is under way, when that has come back. It never blocks.
func (s *Server) probeNow(a *admission) {
	p := &a.probing
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return
	case p.under:
		p.wanted = true
		return
	}
	p.under = true
	p.all.Go(func() {
		for again := true; again; {
			err := s.probeOnce(a)
			p.mu.Lock()
			// Whatever is wrong with a path that answers nothing, the next heartbeat tries it again.
			again = p.wanted && err == nil
			p.under, p.wanted = again, false
			if !again {
				s.beatLater(a, err)
			}
			p.mu.Unlock()
		}
	})
}

// beatLater plans the next beat, sooner after one that failed with err; a.probing.mu is held.
func (s *Server) beatLater(a *admission, err error) {
	p, in := &a.probing, s.every(a)
	if err != nil {
		in = s.cfg.Heartbeat
	}
	switch {
	case p.ended || !a.beats():
	case p.next == nil:
		p.next = time.AfterFunc(in, func() { s.probeNow(a) })
	default:
		p.next.Reset(in)
	}
}

func (s *Server) probeOnce(a *admission) error {
	_, ok := s.cfg.Registry.TripAge(a.connector.Tenant, a.connector.Site, a.link)
	began := s.cfg.Now()
	limit := max(probeLate, lateTrips*a.link.Info().RTT)
	late := time.AfterFunc(limit, func() { s.cfg.Registry.Late(a.connector.Tenant, a.connector.Site, a.link, limit) })
	defer late.Stop()
	err := s.roundTrip(a, func() {
		s.cfg.Registry.Proved(a.connector.Tenant, a.connector.Site, a.link, s.cfg.Now().Sub(began))
	})
	if err != nil {
		s.logger(a).Debug("probe was not answered", zap.Error(err))
		return err
	}
	if !ok && !a.beats() {
		// The connector need not wait for its next heartbeat to learn that its new link works. 0 answers none.
		_ = s.acknowledge(a, 0)
	}
	return nil
}

// acknowledge answers a heartbeat.
func (s *Server) acknowledge(a *admission, sequence uint64) error {
	return a.control.post(s.acknowledgement(a, sequence))
}

func (s *Server) acknowledgement(a *admission, sequence uint64) *tunnelv1.Control {
	ack := &tunnelv1.HeartbeatAck{Sequence: sequence, EdgeTimeMs: s.cfg.Now().UnixMilli()}
	if age, ok := s.cfg.Registry.TripAge(a.connector.Tenant, a.connector.Site, a.link); ok {
		ms := uint32(min(age, time.Hour).Milliseconds())
		ack.RoundTripAgeMs = &ms
	}
	return &tunnelv1.Control{Message: &tunnelv1.Control_HeartbeatAck{HeartbeatAck: ack}}
}

var (
	errOtherEcho = errors.New("something else came back")
	errNoBeat    = errors.New("no heartbeat came back")
)

// roundTrip sends random bytes to the connector's exchange acceptor, reads them back, and calls proved. With a connector that beats
// its heartbeat comes with them, and is answered.
func (s *Server) roundTrip(a *admission, proved func()) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	stream, err := a.link.Open(ctx)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() {
		if err != nil {
			stream.Reset(tunnel.ResetCancelled)
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := errors.Join(stream.SetReadDeadline(deadline), stream.SetWriteDeadline(deadline)); err != nil {
		return err
	}
	sent := make([]byte, 1+wire.ProbeBytes)
	_, _ = rand.Read(sent) // never fails: it ends the process instead
	sent[0] = wire.StreamProbe
	if a.beats() {
		sent[0] = wire.StreamBeat
	}
	if _, err := stream.Write(sent); err != nil {
		return err
	}
	if a.beats() {
		return s.beat(a, stream, sent[1:], proved)
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	if err := echoed(stream, sent[1:]); err != nil {
		return err
	}
	proved()
	return ended(stream)
}

// beat is the rest of a beat: the heartbeat behind the echo, and the answer.
func (s *Server) beat(a *admission, stream tunnel.Stream, echo []byte, proved func()) error {
	reader := bufio.NewReaderSize(stream, readAhead)
	if err := echoed(reader, echo); err != nil {
		return err
	}
	m, err := wire.ReadControl(reader, wire.MaxControl)
	if err != nil {
		return err
	}
	h := m.GetHeartbeat()
	if h == nil {
		return errNoBeat
	}
	if err := ended(reader); err != nil {
		return err
	}
	if err := s.heard(a, h); err != nil {
		endOn(a.link, err)
		return err
	}
	proved()
	a.watchdog.Reset(patience * s.cfg.Heartbeat)
	if err := wire.WriteControl(stream, s.acknowledgement(a, 0)); err != nil {
		return err
	}
	s.offer(context.Background(), a)
	return stream.CloseWrite()
}

// echoed reads what has to come back.
func echoed(r io.Reader, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errOtherEcho
	}
	return nil
}

// ended makes sure that nothing follows. Not errors.Is: see wire.ReadControl.
func ended(r io.Reader) error {
	n, err := r.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errOtherEcho
	case err == io.EOF: //nolint:errorlint // as said
		return nil
	}
	return err
}
