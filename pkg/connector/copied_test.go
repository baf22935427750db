package connector_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/registry"
)

// Two machines with one key take turns, because each of them dials again when the other has superseded it. The first return
// is an alarm, the second freezes the connector: then neither has a link.
func TestCopiedKeyAlarmsAndFreezes(t *testing.T) {
	e := newEdge(t)
	e.stop()
	alarms := make(chan registry.Alarm, 16)
	e.superseded = registry.Config{Drain: 50 * time.Millisecond, Alarm: func(a registry.Alarm) { alarms <- a }}
	e.start(true)
	c := newClinic(t, e, connector.TransportAuto)
	e.members(t, 2)

	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.json", "key.pem"} {
		text, err := os.ReadFile(filepath.Join(c.config.StateDir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	second := c.config
	second.StateDir = dir
	other, err := connector.New(second)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- other.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	for i, frozen := range []bool{false, true} {
		select {
		case a := <-alarms:
			if a.Frozen != frozen || a.Connector != c.identity.Connector {
				t.Errorf("alarm %d: %+v", i, a)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no alarm %d", i)
		}
	}
	e.members(t, 0)
}
