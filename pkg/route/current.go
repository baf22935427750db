package route

import (
	"context"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Current holds the table that is in force. It is safe for concurrent use; the zero value holds an empty table, so that
// nothing is routed before the first Swap.
type Current struct{ table atomic.Pointer[Table] }

// Load returns the table in force, never nil. A request loads it once and keeps to it.
func (c *Current) Load() *Table {
	if t := c.table.Load(); t != nil {
		return t
	}
	return &Table{}
}

// Swap puts a table in force.
func (c *Current) Swap(t *Table) { c.table.Store(t) }

// Known reports whether a canonical host is in the table in force; certs asks before it answers a TLS handshake.
func (c *Current) Known(host string) bool {
	_, ok := c.Load().Host(host)
	return ok
}

// Source is what a table is built from; tenant.Store is one.
type Source interface {
	Tenants(ctx context.Context) ([]tenant.Tenant, error)
	Apps(ctx context.Context, tenant id.Tenant) ([]tenant.App, error)
}

// Reload builds a table from what the source has now and puts it in force. On an error the table in force stays.
func (c *Current) Reload(ctx context.Context, source Source, edgeHost string) error {
	tenants, err := source.Tenants(ctx)
	if err != nil {
		return err
	}
	apps, err := source.Apps(ctx, "")
	if err != nil {
		return err
	}
	t, err := Build(tenants, apps, edgeHost)
	if err != nil {
		return err
	}
	c.Swap(t)
	return nil
}
