package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Reserved is the path under which the edge answers itself on every host; no app may own it.
const Reserved = "/.sallyport"

// Build makes a table. It refuses, with every fault at once: hosts that are not canonical, the edge's host or a sign-in
// host given to an app, a host of two tenants, an app twice, paths that are not canonical, and an app whose tenant does not
// exist. edgeHost is canonical.
func Build(tenants []tenant.Tenant, apps []tenant.App, edgeHost string) (*Table, error) {
	b := builder{
		table:   &Table{doors: make(map[string]*Door, len(tenants)+len(apps)+1), apps: make(map[key]tenant.App, len(apps))},
		tenants: make(map[id.Tenant]tenant.Tenant, len(tenants)),
	}
	b.claim(&Door{Kind: Tunnel, Host: edgeHost}, "the edge")
	for _, t := range tenants {
		if _, twice := b.tenants[t.ID]; twice || t.ID == "" {
			b.fault("tenant %q: named twice or not at all", t.ID)
			continue
		}
		b.tenants[t.ID] = t
		b.claim(&Door{Kind: SignIn, Host: t.SignInHost, Tenant: t}, "sign-in of tenant "+string(t.ID))
	}
	for i := range apps {
		b.app(apps[i])
	}
	for _, d := range b.table.doors {
		slices.SortFunc(d.Apps, func(a, b tenant.App) int {
			return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path))
		})
	}
	if err := errors.Join(b.faults...); err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return b.table, nil
}

type builder struct {
	table   *Table
	tenants map[id.Tenant]tenant.Tenant
	faults  []error
}

func (b *builder) fault(format string, args ...any) {
	b.faults = append(b.faults, fmt.Errorf(format, args...))
}

// claim gives a whole host to a door; it must be free.
func (b *builder) claim(d *Door, who string) {
	if !b.canonical(d.Host, who) {
		return
	}
	if other, taken := b.table.doors[d.Host]; taken {
		b.fault("%s: host %q is taken by %s", who, d.Host, describe(other))
		return
	}
	b.table.doors[d.Host] = d
}

func (b *builder) canonical(host, who string) bool {
	if c, err := CanonicalHost(host); err != nil || c != host {
		b.fault("%s: host %q is not in canonical form", who, host)
		return false
	}
	return true
}

func (b *builder) app(a tenant.App) {
	who := fmt.Sprintf("app %q of tenant %q", a.ID, a.Tenant)
	t, ok := b.tenants[a.Tenant]
	switch {
	case !ok:
		b.fault("%s: there is no such tenant", who)
		return
	case !b.canonical(a.Host, who):
		return
	case !CanOwn(a.Path):
		b.fault("%s: path %q cannot be an app's", who, a.Path)
		return
	}
	k := key{a.Tenant, a.ID}
	if _, twice := b.table.apps[k]; twice || a.ID == "" {
		b.fault("%s: named twice or not at all", who)
		return
	}
	d, taken := b.table.doors[a.Host]
	if !taken {
		d = &Door{Kind: App, Host: a.Host, Tenant: t}
		b.table.doors[a.Host] = d
	}
	if d.Kind != App || d.Tenant.ID != a.Tenant {
		b.fault("%s: host %q is taken by %s", who, a.Host, describe(d))
		return
	}
	if slices.ContainsFunc(d.Apps, func(other tenant.App) bool { return other.Path == a.Path }) {
		b.fault("%s: %s%s is taken by another app", who, a.Host, a.Path)
		return
	}
	d.Apps = append(d.Apps, a)
	b.table.apps[k] = a
}

func describe(d *Door) string {
	switch d.Kind {
	case Tunnel:
		return "the edge"
	case SignIn:
		return "sign-in of tenant " + string(d.Tenant.ID)
	default:
		return "apps of tenant " + string(d.Tenant.ID)
	}
}

// CanOwn reports whether an app may have path: Build refuses every other one. It is canonical, and none of the edge's own.
func CanOwn(path string) bool { return canonicalPath(path) && !Under(path, Reserved) }

// canonicalPath accepts "/" and segments of unreserved characters (RFC 3986 §2.3) that no parser takes for something else.
func canonicalPath(p string) bool {
	if p == "/" {
		return true
	}
	if !strings.HasPrefix(p, "/") || len(p) > 1024 {
		return false
	}
	for s := range strings.SplitSeq(p[1:], "/") {
		if s == "" || s == "." || s == ".." || strings.ContainsFunc(s, reserved) {
			return false
		}
	}
	return true
}

func reserved(r rune) bool {
	return r > 0x7f || !letterDigitHyphen(byte(r)) && !strings.ContainsRune("._~", r)
}
