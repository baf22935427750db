package controlserver_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// acceptor is a connector's exchange path that can be stuck.
type acceptor struct {
	stuck  atomic.Bool
	probes atomic.Int64
}

func (a *acceptor) serve(t *testing.T, link tunnel.Link, beat func(tunnel.Stream) error) {
	for {
		s, err := link.Accept(t.Context())
		if err != nil {
			return
		}
		if a.stuck.Load() {
			continue
		}
		kind, err := wire.ReadKind(s)
		if err == nil && kind == wire.StreamBeat {
			a.probes.Add(1)
			if err := beat(s); err != nil && link.Cause() == nil {
				t.Error("beat:", err)
			}
			continue
		}
		all, err := io.ReadAll(s)
		if err != nil && link.Cause() != nil {
			return // the link ended in the middle of a probe
		}
		if err != nil || kind != wire.StreamProbe || len(all) != wire.ProbeBytes {
			t.Errorf("the edge sent %x on a stream of kind %d, %v", all, kind, err)
			return
		}
		a.probes.Add(1)
		_, _ = s.Write(all)
		_ = s.CloseWrite()
	}
}

func (w *world) shownUp(t *testing.T, link *controlclient.Link) (atEdge, atConnector bool) {
	t.Helper()
	all := w.registry.Members("maple")
	if len(all) != 1 {
		t.Fatalf("%d links", len(all))
	}
	at, _ := link.RoundTrip()
	return all[0].Up, !at.IsZero() && time.Since(at) <= 10*time.Second
}

// A heartbeat alone never shows green (attack case H15): the control stream lives, and exchanges are stuck.
func TestLinkThatCarriesNoExchangeIsNotShownUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, link, ended, served := w.up(t, controlclient.Handlers{})
		if edge, connector := w.shownUp(t, link); edge || connector {
			t.Errorf("before anything came back: up at the edge %v, at the connector %v", edge, connector)
		}
		a := &acceptor{}
		accepting := make(chan struct{})
		go func() { defer close(accepting); a.serve(t, link, link.Beat) }()
		synctest.Wait()
		for range 60 {
			if edge, connector := w.shownUp(t, link); !edge || !connector {
				t.Fatalf("up at the edge %v, at the connector %v", edge, connector)
			}
			<-time.After(time.Second)
		}
		a.stuck.Store(true)
		<-time.After(10*time.Second + time.Millisecond)
		if edge, connector := w.shownUp(t, link); edge || connector {
			t.Errorf("stuck for 10 s: up at the edge %v, at the connector %v", edge, connector)
		}
		if m := w.registry.PickHere("maple", "main", ""); m == nil || !m.Quiet() {
			t.Error("it is not quiet, so that no other link is better")
		}
		<-time.After(time.Minute)
		if dialed.reason() != "" {
			t.Fatalf("the control stream was to live: %v", dialed.Cause())
		}
		a.stuck.Store(false)
		<-time.After(15 * time.Second) // the probe that is stuck, and two heartbeats
		if edge, connector := w.shownUp(t, link); !edge || !connector {
			t.Errorf("it works again: up at the edge %v, at the connector %v", edge, connector)
		}
		if w.registry.PickHere("maple", "main", "").Quiet() {
			t.Error("it works again, and others are preferred")
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-ended
		<-served
		<-accepting
	})
}

// With a connector of before beats heartbeats come on the control stream; exchanges that are answered need no probes beside them, and
// show the same.
func TestAnsweredExchangesSpareProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, served := w.older(t)
		a := &acceptor{}
		accepting, beating := make(chan struct{}), make(chan struct{})
		go func() { defer close(accepting); a.serve(t, p.link, nil) }()
		go func() { defer close(beating); p.beat() }()
		m, err := w.registry.Pick(t.Context(), "maple", "main", "")
		if err != nil {
			t.Fatal(err)
		}
		up := func() bool { return w.registry.Members("maple")[0].Up }
		for range 60 {
			<-time.After(500 * time.Millisecond)
			m.Answered()
			synctest.Wait()
			if !up() {
				t.Fatal("not up")
			}
		}
		if n := a.probes.Load(); n != 1 {
			t.Errorf("%d probes, want that of the beginning alone", n)
		}
		<-time.After(time.Minute)
		if n := a.probes.Load(); n < 9 || !up() {
			t.Errorf("%d probes in the minute without exchanges; up: %v", n-1, up())
		}
		_ = p.link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-served
		<-accepting
		<-beating
	})
}

// older admits a connector of before beats.
func (w *world) older(t *testing.T) (*peer, <-chan error) {
	t.Helper()
	dialed, accepted := memPair()
	served := w.serve(t.Context(), accepted)
	p := newPeer(t, dialed)
	p.kind(wire.StreamControl)
	h := hello()
	h.Features = []string{wire.FeatureProbe}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.send(helloMessage(h)))
	m, err := p.read()
	must(err)
	exporter, _ := dialed.Export(controlserver.ExporterLabel, nil, 32)
	proof, err := token.SignLinkProof(w.key, connectorID, m.GetHello().GetNonce(), exporter)
	must(err)
	must(p.send(registerMessage(proof)))
	m, err = p.read()
	must(err)
	if every := m.GetRegistered().GetHeartbeatMs(); every != 3000 {
		t.Errorf("it is to send a heartbeat every %d ms", every)
	}
	must(p.send(heartbeatMessage(1)))
	return p, served
}

// beat sends heartbeats, the first of them once one is due, until the link ends, and reads what comes.
func (p *peer) beat() {
	go func() {
		for n := uint64(2); ; n++ {
			select {
			case <-time.After(3 * time.Second):
			case <-p.link.Done():
			}
			if p.send(heartbeatMessage(n)) != nil {
				return
			}
		}
	}()
	for {
		if _, err := p.read(); err != nil {
			return
		}
	}
}

// An idle connector's heartbeats come with the probes, and tell of its origins; the control stream says nothing.
func TestHeartbeatsGoTheWayOfExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var healthy atomic.Bool
		dialed, link, ended, served := w.up(t, controlclient.Handlers{Origins: func() []*tunnelv1.OriginHealth {
			return []*tunnelv1.OriginHealth{{Name: "oscar", Healthy: healthy.Load()}}
		}})
		a := &acceptor{}
		accepting := make(chan struct{})
		go func() { defer close(accepting); a.serve(t, link, link.Beat) }()
		synctest.Wait()
		control := &dialed.said
		before := control.Load()
		<-time.After(time.Minute)
		if n := a.probes.Load(); n < 10 || n > 12 {
			t.Errorf("%d beats in a minute", n)
		}
		if said := control.Load() - before; said != 0 {
			t.Errorf("%d messages on the control stream meanwhile", said)
		}
		healthy.Store(true)
		<-time.After(6 * time.Second)
		synctest.Wait()
		if o := w.registry.Members("maple")[0].Origins; len(o) != 1 || !o[0].GetHealthy() {
			t.Errorf("the edge has not heard that the origin is well: %v", o)
		}
		if at, took := link.RoundTrip(); time.Since(at) > 6*time.Second || took <= 0 {
			t.Errorf("the connector knows of a round trip of %v, %v ago", took, time.Since(at))
		}
		// Without beats heartbeats come on the control stream, so that the link is not closed as silent.
		a.stuck.Store(true)
		<-time.After(2 * time.Minute)
		if dialed.reason() != "" || control.Load() == before {
			t.Errorf("closed as %q after %d messages", dialed.reason(), control.Load()-before)
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-ended
		<-served
		<-accepting
	})
}

// One of a process's links breaks off: the other proves at once that the process lives. If it cannot, it takes no exchange until it can.
func TestABrokenLinkHasTheOthersProveThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		all := make(chan (<-chan error), 8)
		a := &acceptor{}
		accepting := make(chan struct{})
		up := func() *memLink {
			dialed, link, ended, served := w.up(t, controlclient.Handlers{})
			go func() { a.serve(t, link, link.Beat); accepting <- struct{}{} }()
			synctest.Wait()
			all <- ended
			all <- served
			return dialed
		}
		here := func() bool { return w.registry.PickHere("maple", "main", "") != nil }
		first, second, third := up(), up(), up()
		before := a.probes.Load()
		_ = second.Close(tunnel.Reason{Code: tunnel.ReasonLost})
		synctest.Wait()
		if n := a.probes.Load() - before; n != 2 || !here() {
			t.Errorf("%d probes of two links; one takes exchanges: %v", n, here())
		}
		a.stuck.Store(true)
		_ = third.Close(tunnel.Reason{Code: tunnel.ReasonLost})
		synctest.Wait()
		if here() {
			t.Error("a link that did not prove itself takes exchanges")
		}
		a.stuck.Store(false)
		<-time.After(15 * time.Second) // the probe that is stuck, and two heartbeats
		if !here() {
			t.Error("it works again, and takes no exchanges")
		}
		_ = first.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		for range 3 {
			<-<-all
			<-<-all
			<-accepting
		}
	})
}

// A process's link breaks off while another one of it has joined and is not served yet: that one proves the process all the same.
func TestALinkThatIsJustJoiningProvesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old, _, ended, served := w.up(t, controlclient.Handlers{})
		a, looked := &acceptor{}, 0
		w.store.onFound = func() { // before it is admitted, and once it has joined
			if looked++; looked != 2 {
				return
			}
			_ = old.Close(tunnel.Reason{Code: tunnel.ReasonLost})
			<-time.After(time.Second)
			if a.probes.Load() == 0 {
				t.Error("it has not been asked")
			}
		}
		dialed, accepted := memPair()
		servedToo := w.serve(t.Context(), accepted)
		link, err := controlclient.Open(t.Context(), dialed, w.client())
		if err != nil {
			t.Fatal(err)
		}
		accepting, endedToo := make(chan struct{}), make(chan error, 1)
		go func() { defer close(accepting); a.serve(t, link, link.Beat) }()
		go func() { endedToo <- link.Serve(t.Context(), controlclient.Handlers{}) }()
		<-time.After(2 * time.Second)
		if w.registry.PickHere("maple", "main", "") == nil {
			t.Error("it takes no exchanges")
		}
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		for _, done := range []<-chan error{ended, served, endedToo, servedToo} {
			<-done
		}
		<-accepting
	})
}
