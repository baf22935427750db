package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

type tenants struct{ db *DB }

// What a host is for.
const signInPurpose, appPurpose = "sign-in", "app"

func (s tenants) CreateTenant(ctx context.Context, t tenant.Tenant) error {
	return s.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tenants (id, name, sign_in_host, zone, created) VALUES ($1, $2, $3, $4, $5)`,
			t.ID, t.Name, t.SignInHost, t.Zone, millis(t.Created))
		if taken(err) {
			return fault.New(fault.Exists, "tenant %s exists already", t.ID)
		}
		if err != nil {
			return err
		}
		if err := tx.claimHost(ctx, t.ID, t.SignInHost, signInPurpose); err != nil {
			return err
		}
		return tx.log(ctx, t.ID, change.Tenant, string(t.ID))
	})
}

// claimHost gives host to a tenant for one purpose. An app's host may be claimed again by the same tenant, for another
// path. The words do not tell whose a taken host is.
func (t *tx) claimHost(ctx context.Context, tenant id.Tenant, host, purpose string) error {
	n, err := t.affected(ctx, `INSERT INTO hosts (host, tenant, purpose) VALUES ($1, $2, $3) ON CONFLICT (host) DO NOTHING`,
		host, tenant, purpose)
	if err != nil || n == 1 {
		return err
	}
	var owner id.Tenant
	var use string
	// The update changes nothing and holds the row: an app that goes at the same time must not take its host along. Where
	// one went just now, the row is gone; to say "taken" is true of a moment ago.
	err = t.QueryRowContext(ctx, `UPDATE hosts SET purpose = purpose WHERE host = $1 RETURNING tenant, purpose`, host).Scan(&owner, &use)
	if err != nil && !missing(err) {
		return err
	}
	if owner != tenant || use != purpose || purpose == signInPurpose {
		return fault.New(fault.Exists, "host %s is taken", host)
	}
	return nil
}

func (s tenants) Tenants(ctx context.Context) ([]tenant.Tenant, error) {
	return list(s.db.ask(ctx, everyTenant, `SELECT id, name, sign_in_host, zone, created FROM tenants ORDER BY id`), func(r row) (t tenant.Tenant, err error) {
		var created int64
		err = r.Scan(&t.ID, &t.Name, &t.SignInHost, &t.Zone, &created)
		t.Created = moment(created)
		return t, err
	})
}

func (s tenants) CreateSite(ctx context.Context, site tenant.Site) error {
	return s.db.update(ctx, site.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sites (tenant, id, created) VALUES ($1, $2, $3)`,
			site.Tenant, site.ID, millis(site.Created))
		switch {
		case taken(err):
			return fault.New(fault.Exists, "site %s exists already", site.ID)
		case absent(err):
			return fault.New(fault.NotFound, "no such tenant: %s", site.Tenant)
		case err != nil:
			return err
		}
		return tx.log(ctx, site.Tenant, change.Site, string(site.ID))
	})
}

func (s tenants) Sites(ctx context.Context, of id.Tenant) ([]tenant.Site, error) {
	return list(s.db.ask(ctx, of, `SELECT tenant, id, created FROM sites WHERE tenant = $1 ORDER BY id`, of), func(r row) (site tenant.Site, err error) {
		var created int64
		err = r.Scan(&site.Tenant, &site.ID, &created)
		site.Created = moment(created)
		return site, err
	})
}

func (s tenants) CreateApp(ctx context.Context, a tenant.App) error {
	landing, websocket, rules, err := encodeApp(a)
	if err != nil {
		return err
	}
	return s.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		if err := tx.requireSite(ctx, a.Tenant, a.Site); err != nil {
			return err
		}
		if err := tx.claimHost(ctx, a.Tenant, a.Host, appPurpose); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO apps (tenant, id, host, path, site, name, landing, websocket, rules, created)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			a.Tenant, a.ID, a.Host, a.Path, a.Site, a.Name, landing, websocket, rules, millis(a.Created))
		if taken(err) {
			return fault.New(fault.Exists, "an app has %s%s already", a.Host, a.Path)
		}
		if err != nil {
			return err
		}
		return tx.log(ctx, a.Tenant, change.App, string(a.ID))
	})
}

// holdSite is requireSite that keeps others who hold the site waiting until the transaction ends.
func (t *tx) holdSite(ctx context.Context, tenant id.Tenant, site id.Site) error {
	n, err := t.affected(ctx, `UPDATE sites SET created = created WHERE tenant = $1 AND id = $2`, tenant, site)
	if err == nil && n == 0 {
		return fault.New(fault.NotFound, "tenant %s has no site %s", tenant, site)
	}
	return err
}

// requireSite fails with fault.NotFound when the tenant has no such site.
func (t *tx) requireSite(ctx context.Context, tenant id.Tenant, site id.Site) error {
	var one int
	err := t.QueryRowContext(ctx, `SELECT 1 FROM sites WHERE tenant = $1 AND id = $2`, tenant, site).Scan(&one)
	if missing(err) {
		return fault.New(fault.NotFound, "tenant %s has no site %s", tenant, site)
	}
	return err
}

func (s tenants) SetRules(ctx context.Context, of id.Tenant, app id.App, rules []policy.Rule) error {
	text, err := encodeRules(rules)
	if err != nil {
		return err
	}
	return s.db.update(ctx, of, func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE apps SET rules = $3 WHERE tenant = $1 AND id = $2`, of, app, text)
		if err != nil {
			return err
		}
		if n == 0 {
			return noApp()
		}
		return tx.log(ctx, of, change.App, string(app))
	})
}

func (s tenants) DeleteApp(ctx context.Context, of id.Tenant, app id.App) error {
	return s.db.update(ctx, of, func(ctx context.Context, tx *tx) error {
		var host string
		err := tx.QueryRowContext(ctx, `DELETE FROM apps WHERE tenant = $1 AND id = $2 RETURNING host`, of, app).Scan(&host)
		if missing(err) {
			return noApp()
		}
		if err != nil {
			return err
		}
		// The host is free again when its last app is gone. First it is held, as claimHost does: only then can be seen which
		// apps there are.
		if _, err := tx.ExecContext(ctx, `UPDATE hosts SET purpose = purpose WHERE tenant = $1 AND host = $2`, of, host); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM hosts WHERE tenant = $1 AND host = $2
			AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.tenant = $1 AND apps.host = $2)`, of, host)
		if err != nil {
			return err
		}
		return tx.log(ctx, of, change.App, string(app))
	})
}

func (s tenants) Apps(ctx context.Context, of id.Tenant) ([]tenant.App, error) {
	return list(s.db.ask(ctx, orEvery(of), `SELECT tenant, id, host, path, site, name, landing, websocket, rules, created
		FROM apps WHERE tenant = $1 OR $1 = '' ORDER BY tenant, host, path`, of), scanApp)
}

func scanApp(r row) (a tenant.App, err error) {
	var landing, websocket, rules string
	var created int64
	err = r.Scan(&a.Tenant, &a.ID, &a.Host, &a.Path, &a.Site, &a.Name, &landing, &websocket, &rules, &created)
	if err != nil {
		return tenant.App{}, err
	}
	a.Created = moment(created)
	if err := decodeApp(&a, landing, websocket, rules); err != nil {
		return tenant.App{}, fmt.Errorf("app %s: %w", a.ID, err)
	}
	return a, nil
}

func noApp() error { return fault.New(fault.NotFound, "no such app in this clinic") }

func encodeApp(a tenant.App) (landing, websocket, rules string, err error) {
	l, err := json.Marshal(a.Landing)
	if err != nil {
		return "", "", "", err
	}
	w, err := json.Marshal(a.WebSocket)
	if err != nil {
		return "", "", "", err
	}
	rules, err = encodeRules(a.Rules)
	return string(l), string(w), rules, err
}

func decodeApp(a *tenant.App, landing, websocket, rules string) (err error) {
	if err := json.Unmarshal([]byte(landing), &a.Landing); err != nil {
		return fmt.Errorf("landing: %w", err)
	}
	if err := json.Unmarshal([]byte(websocket), &a.WebSocket); err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	a.Rules, err = decodeRules(rules)
	return err
}
