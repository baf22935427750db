package tenant

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// IngressHistory is how many versions of a site's ingress rules are kept.
const IngressHistory = 20

// Ingress is one version of the ingress rules that are kept at the edge for the connectors of a site.
type Ingress struct {
	Tenant id.Tenant
	Site   id.Site
	// Version counts from 1 for each site and only grows.
	Version uint64
	// YAML is what a connector's own file would hold; empty means that none are kept any more.
	YAML    []byte
	Created time.Time
	// By says whose process made it, as the system knows them: "root", "uid 1000".
	By string
}

// IngressStore keeps ingress rules. What does not exist gives fault.NotFound.
type IngressStore interface {
	// SetIngress adds the next version for a site, whatever Version says, and returns it. It appends to the change log in the
	// same transaction and is durable when it returns. Of the versions before, the newest IngressHistory-1 stay.
	SetIngress(ctx context.Context, i Ingress) (Ingress, error)
	// Ingress returns one version, or the newest for 0.
	Ingress(ctx context.Context, tenant id.Tenant, site id.Site, version uint64) (Ingress, error)
	// IngressVersions returns the versions that are kept, newest first.
	IngressVersions(ctx context.Context, tenant id.Tenant, site id.Site) ([]Ingress, error)
}
