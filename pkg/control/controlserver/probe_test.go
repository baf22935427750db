package controlserver_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// acceptor is a connector's exchange path that can be stuck.
type acceptor struct {
	stuck  atomic.Bool
	probes atomic.Int64
}

func (a *acceptor) serve(t *testing.T, link *controlclient.Link) {
	for {
		s, err := link.Accept(t.Context())
		if err != nil {
			return
		}
		if a.stuck.Load() {
			continue
		}
		all, err := io.ReadAll(s)
		if err != nil && link.Cause() != nil {
			return // the link ended in the middle of a probe
		}
		if err != nil || len(all) != 1+wire.ProbeBytes || all[0] != wire.StreamProbe {
			t.Errorf("the edge sent %x, %v", all, err)
			return
		}
		a.probes.Add(1)
		_, _ = s.Write(all[1:])
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
		go func() { defer close(accepting); a.serve(t, link) }()
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

// Exchanges that are answered need no probes beside them, and show the same.
func TestAnsweredExchangesSpareProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dialed, link, ended, served := w.up(t, controlclient.Handlers{})
		a := &acceptor{}
		accepting := make(chan struct{})
		go func() { defer close(accepting); a.serve(t, link) }()
		m, err := w.registry.Pick(t.Context(), "maple", "main", "")
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			<-time.After(500 * time.Millisecond)
			m.Answered()
			synctest.Wait()
			if edge, connector := w.shownUp(t, link); !edge || !connector {
				t.Fatalf("up at the edge %v, at the connector %v", edge, connector)
			}
		}
		if n := a.probes.Load(); n != 1 {
			t.Errorf("%d probes, want that of the beginning alone", n)
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
			go func() { a.serve(t, link); accepting <- struct{}{} }()
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
