package edge

import (
	"crypto/ed25519"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// A connector whose key turned up twice stays out over a restart of the edge, until the operator thaws it.
func TestAFrozenConnectorStaysFrozenUntilItIsThawed(t *testing.T) {
	c := prepared(t)
	e, err := New(t.Context(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.admin().CreateTenant(t.Context(), tenant.Tenant{ID: "maple"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.admin().CreateSite(t.Context(), "maple", "main"); err != nil {
		t.Fatal(err)
	}
	service := enroll.NewService(e.store.Enroll(), time.Now)
	code, _, err := service.Invite(t.Context(), "maple", "main")
	if err != nil {
		t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	connector, err := service.Enroll(t.Context(), code, public)
	if err != nil {
		t.Fatal(err)
	}
	e.freeze(registry.Alarm{Tenant: "maple", Site: "main", Connector: connector.ID, Why: "seen once"})
	if state := frozen(t, e, connector.ID); state != "" {
		t.Errorf("an alarm alone froze it: %q", state)
	}
	e.freeze(registry.Alarm{Tenant: "maple", Site: "main", Connector: connector.ID, Frozen: true, Why: "two processes"})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = New(t.Context(), c, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if state := frozen(t, e, connector.ID); state != "two processes" {
		t.Errorf("after a restart: %q", state)
	}
	if err := e.admin().ThawConnector(t.Context(), "maple", connector.ID); err != nil {
		t.Fatal(err)
	}
	if state := frozen(t, e, connector.ID); state != "" {
		t.Errorf("thawed: %q", state)
	}
}

func frozen(t *testing.T, e *Edge, c id.Connector) string {
	t.Helper()
	known, err := e.store.Enroll().Connector(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return known.Frozen
}
