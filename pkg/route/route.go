// Package route owns where a request belongs: the host names of the edge, each with its one tenant and what stands behind
// it, in an immutable table that is replaced as a whole. It judges nobody; a host or path that it does not know belongs
// nowhere.
package route

import (
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Kind says what stands behind a host.
type Kind int

// The kinds of door. The zero value is none.
const (
	// Tunnel is the edge's own host: connectors, enrolment. No tenant.
	Tunnel Kind = iota + 1
	// SignIn is a tenant's host for sign-in; it never proxies.
	SignIn
	// App is a host with one or more of a tenant's apps.
	App
)

// Door is what stands behind one host.
type Door struct {
	Kind   Kind
	Host   string
	Tenant tenant.Tenant
	// Apps have the longest path first; not to be changed.
	Apps []tenant.App
}

// Match returns the app with the longest prefix of path, per segment: "/oscar/ws" matches "/oscar/ws/x" and not
// "/oscar/wsx". path is canonical (urlpath).
func (d *Door) Match(path string) (tenant.App, bool) {
	for i := range d.Apps {
		if Under(path, d.Apps[i].Path) {
			return d.Apps[i], true
		}
	}
	return tenant.App{}, false
}

// Under reports whether path is prefix or lies below it, per segment. Both are canonical; "/" holds every path.
func Under(path, prefix string) bool {
	if prefix == "/" {
		return strings.HasPrefix(path, "/")
	}
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// Table maps hosts to doors. It never changes once built. The zero value knows no host.
type Table struct {
	doors map[string]*Door
	apps  map[key]tenant.App
}

type key struct {
	tenant id.Tenant
	app    id.App
}

// Host returns the door of a canonical host (CanonicalHost). The door is shared: not to be changed.
func (t *Table) Host(host string) (*Door, bool) {
	d, ok := t.doors[host]
	return d, ok
}

// App returns a tenant's app by its id.
func (t *Table) App(tenant id.Tenant, app id.App) (tenant.App, bool) {
	a, ok := t.apps[key{tenant, app}]
	return a, ok
}

// Hosts returns how many hosts the table knows.
func (t *Table) Hosts() int { return len(t.doors) }
