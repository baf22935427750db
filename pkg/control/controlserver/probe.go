package controlserver

import (
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

// A heartbeat shows that the control stream lives, and no more (attack case H15): a link is up while something goes the way of
// exchanges and comes back. Exchanges that are answered show it; on a quiet link a probe does.
const (
	// provedLately is how young a round trip has to be for a heartbeat to bring no probe. With heartbeats every 3 s each second
	// one does, so that what is up was shown 7 s ago at most: probes are most of what an idle link costs.
	provedLately = 4 * time.Second
	// probeTimeout is how long a probe may take; there is one at a time.
	probeTimeout = 8 * time.Second
	// probeLate and lateTrips, in round trips of the link, are how long a probe may be out before others are preferred.
	probeLate = 500 * time.Millisecond
	lateTrips = 4
)

// probing is what a link's probes share: there is one at a time.
type probing struct {
	mu     sync.Mutex // guards all below; nothing is called under it
	under  bool       // a probe is under way
	wanted bool       // another one is to follow it
	ended  bool       // the link has ended: none is begun
	all    sync.WaitGroup
}

// end returns when no probe is under way, and none will be. The link has ended, so that this is soon.
func (p *probing) end() {
	p.mu.Lock()
	p.ended = true
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
			p.mu.Unlock()
		}
	})
}

func (s *Server) probeOnce(a *admission) error {
	_, ok := s.cfg.Registry.TripAge(a.connector.Tenant, a.connector.Site, a.link)
	began := s.cfg.Now()
	limit := max(probeLate, lateTrips*a.link.Info().RTT)
	late := time.AfterFunc(limit, func() { s.cfg.Registry.Late(a.connector.Tenant, a.connector.Site, a.link, limit) })
	defer late.Stop()
	if err := roundTrip(a.link); err != nil {
		s.logger(a).Debug("probe was not answered", zap.Error(err))
		return err
	}
	s.cfg.Registry.Proved(a.connector.Tenant, a.connector.Site, a.link, s.cfg.Now().Sub(began))
	if !ok {
		// The connector need not wait for its next heartbeat to learn that its new link works. 0 answers none.
		_ = s.acknowledge(a, 0)
	}
	return nil
}

// acknowledge answers a heartbeat.
func (s *Server) acknowledge(a *admission, sequence uint64) error {
	ack := &tunnelv1.HeartbeatAck{Sequence: sequence, EdgeTimeMs: s.cfg.Now().UnixMilli()}
	if age, ok := s.cfg.Registry.TripAge(a.connector.Tenant, a.connector.Site, a.link); ok {
		ms := uint32(min(age, time.Hour).Milliseconds())
		ack.RoundTripAgeMs = &ms
	}
	return a.control.post(&tunnelv1.Control{Message: &tunnelv1.Control_HeartbeatAck{HeartbeatAck: ack}})
}

var errOtherEcho = errors.New("something else came back")

// roundTrip sends random bytes to the connector's exchange acceptor and reads them back.
func roundTrip(link tunnel.Link) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	stream, err := link.Open(ctx)
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
	sent := make([]byte, 1+2*wire.ProbeBytes+1)
	sent, got := sent[:1+wire.ProbeBytes], sent[1+wire.ProbeBytes:] // with room for one byte that must not come
	_, _ = rand.Read(sent)                                          // never fails: it ends the process instead
	sent[0] = wire.StreamProbe
	if _, err := stream.Write(sent); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	// One more byte is asked for than may come, so that a right answer ends early. Not errors.Is: see wire.ReadControl.
	n, err := io.ReadFull(stream, got)
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // as said
		err = nil
		if !bytes.Equal(got[:n], sent[1:]) {
			err = errOtherEcho
		}
	}
	return err
}
