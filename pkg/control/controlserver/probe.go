package controlserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// A heartbeat shows that the control stream lives, and no more (attack case H15): a link is up while something goes the way of
// exchanges and comes back. Exchanges that are answered show it; on a quiet link a probe does.
const (
	// provedLately is how young a round trip has to be for a heartbeat to bring no probe.
	provedLately = 2 * time.Second
	// probeTimeout is how long a probe may take; there is one at a time.
	probeTimeout = 8 * time.Second
)

// probe sends a probe unless one is under way, or the link has shown lately that it works. It never blocks.
func (s *Server) probe(a *admission) {
	age, ok := s.cfg.Registry.TripAge(a.connector.Tenant, a.connector.Site, a.link)
	if ok && age < provedLately || !a.probing.CompareAndSwap(false, true) {
		return
	}
	a.probes.Go(func() {
		defer a.probing.Store(false)
		began := s.cfg.Now()
		if err := roundTrip(a.link); err != nil {
			s.logger(a).Debug("probe was not answered", zap.Error(err))
			return
		}
		s.cfg.Registry.Proved(a.connector.Tenant, a.connector.Site, a.link, s.cfg.Now().Sub(began))
		if !ok {
			// The connector need not wait for its next heartbeat to learn that its new link works. 0 answers none.
			_ = s.acknowledge(a, 0)
		}
	})
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
	sent := make([]byte, 1+wire.ProbeBytes)
	_, _ = rand.Read(sent) // never fails: it ends the process instead
	sent[0] = wire.StreamProbe
	if _, err := stream.Write(sent); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(stream, wire.ProbeBytes+1))
	if err == nil && !bytes.Equal(got, sent[1:]) {
		err = errOtherEcho
	}
	return err
}
