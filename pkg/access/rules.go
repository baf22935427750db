package access

import (
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// rules remembers the apps that changed since the edge started. A request brings its app from the route table, which is
// replaced on its own time; the rules that count are the newest that either of the two knows.
type rules struct {
	mu      sync.RWMutex // guards changed
	changed map[appKey]*tenant.App
}

type appKey struct {
	tenant id.Tenant
	app    id.App
}

func newRules() *rules { return &rules{changed: map[appKey]*tenant.App{}} }

// of returns the rules of an app: none when it was deleted, or moved to another host or site, since the caller found it.
func (r *rules) of(app tenant.App) []policy.Rule {
	r.mu.RLock()
	now, changed := r.changed[appKey{app.Tenant, app.ID}]
	r.mu.RUnlock()
	switch {
	case !changed:
		return app.Rules
	case now == nil || now.Host != app.Host || now.Path != app.Path || now.Site != app.Site:
		return nil
	default:
		return now.Rules
	}
}

// replace notes how all apps are now; any other is gone.
func (r *rules) replace(apps []tenant.App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.changed {
		r.changed[key] = nil
	}
	for i := range apps {
		r.changed[appKey{apps[i].Tenant, apps[i].ID}] = &apps[i]
	}
}

// set notes how an app is now; nil when there is none any more.
func (r *rules) set(t id.Tenant, app id.App, now *tenant.App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed[appKey{t, app}] = now
}
