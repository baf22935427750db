package connector_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/handover"
	"github.com/sallyport-dev/sallyport/pkg/registry"
)

// A successor that got the offer, and fails before it is ready, changes nothing: the connector takes up dialling again, as another
// run, with new links in the place of those that the successor's may have superseded. What runs on the old ones ends in its own time.
func TestAConnectorGoesOnAfterASuccessorThatFailed(t *testing.T) {
	e := newEdge(t)
	e.stop()
	alarms := make(chan registry.Alarm, 8)
	e.superseded.Alarm = func(a registry.Alarm) { alarms <- a }
	e.start(true)
	c := newClinic(t, e, connector.TransportAuto)
	e.members(t, 2)
	before := e.member(t).Generation
	long := slow(t, e, e.member(t), "ses_1")
	load := newLoad(t, e)
	for range 2 {
		load.more(t, 50)
		claim := ask(t, c)
		load.more(t, 50) // meanwhile, too
		claim.Fail(errors.New("it had no link"))
		claim.Files.Close()
		last := before
		e.eventually(t, "no links of a new run", func() bool { before = e.member(t).Generation; return before > last })
	}
	load.more(t, 50)
	load.end(t)
	close(c.origin.hold)
	if text, err := io.ReadAll(long.Body); err != nil || string(text) != "chart of /slow" {
		t.Errorf("what ran on the first link: %q %v", text, err)
	}
	if len(alarms) > 0 {
		t.Errorf("the edge takes it for a copied key: %+v", <-alarms)
	}
	c.ready(t)
}

// ask asks a connector for its place, as a successor does.
func ask(t *testing.T, c *clinic) *handover.Claim {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		claim, err := handover.Ask(t.Context(), filepath.Join(c.config.StateDir, "handover.sock"), "new")
		if claim != nil {
			return claim
		}
		if time.Now().After(deadline) { // it listens soon after its start, and when an attempt before is over
			t.Fatalf("no offer: %v", err)
		}
	}
}

// A successor that is ready has the place: the connector finishes what runs and ends. Its listener answers in one process at a time.
func TestAConnectorEndsOnceASuccessorIsReady(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto)
	e.members(t, 2)
	c.ready(t)
	long := slow(t, e, e.member(t), "ses_1")
	claim := ask(t, c)
	if err := claim.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lock", "loopback", "handover"} {
		if claim.Files[name] == nil {
			t.Errorf("%s was not handed over", name)
		}
	}
	l, err := claim.Files.Listener("loopback", "127.0.0.1:0")
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/ready")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = server.Serve(l) }()
	if err := <-answered; err != nil {
		t.Errorf("the listener after the hand-over: %v", err)
	}
	_ = server.Close()
	close(c.origin.hold)
	if text, err := io.ReadAll(long.Body); err != nil || string(text) != "chart of /slow" {
		t.Errorf("what ran: %q %v", text, err)
	}
	if err := c.end(t); err != nil {
		t.Error(err)
	}
	claim.Files.Close()
}

// Whoever asks a connector that stops gets nothing, and nobody who was not started by the running one takes its place.
func TestASecondConnectorIsRefused(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto)
	c.ready(t)
	second, err := connector.New(c.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil {
		t.Error("a second connector runs with the state of the first")
	}
	c.ready(t)
}
