package store

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

type ingressRules struct{ db *DB }

var _ tenant.IngressStore = ingressRules{}

const selectIngress = `SELECT tenant, site, version, yaml, created, author FROM ingress `

func (s ingressRules) SetIngress(ctx context.Context, i tenant.Ingress) (tenant.Ingress, error) {
	i.Created = moment(millis(i.Created))
	if i.YAML == nil {
		i.YAML = []byte{}
	}
	err := s.db.update(ctx, i.Tenant, func(ctx context.Context, tx *tx) error {
		if err := tx.holdSite(ctx, i.Tenant, i.Site); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, `INSERT INTO ingress (tenant, site, version, yaml, created, author)
			SELECT $1, $2, COALESCE(MAX(version), 0) + 1, $3, $4, $5 FROM ingress WHERE tenant = $1 AND site = $2
			RETURNING version`, i.Tenant, i.Site, i.YAML, millis(i.Created), i.By).Scan(&i.Version)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM ingress WHERE tenant = $1 AND site = $2 AND version <= $3`,
			i.Tenant, i.Site, int64(i.Version)-tenant.IngressHistory)
		if err != nil {
			return err
		}
		return tx.log(ctx, i.Tenant, change.Ingress, string(i.Site))
	})
	if err != nil {
		return tenant.Ingress{}, err
	}
	return i, nil
}

func (s ingressRules) Ingress(ctx context.Context, t id.Tenant, site id.Site, version uint64) (tenant.Ingress, error) {
	one, err := scanIngress(s.db.ask(ctx, t, selectIngress+
		`WHERE tenant = $1 AND site = $2 AND (version = $3 OR $3 = 0) ORDER BY version DESC LIMIT 1`, t, site, int64(version)))
	if missing(err) {
		return tenant.Ingress{}, fault.New(fault.NotFound, "no such ingress rules are kept for site %s", site)
	}
	return one, explain(err)
}

func (s ingressRules) IngressVersions(ctx context.Context, t id.Tenant, site id.Site) ([]tenant.Ingress, error) {
	return list(s.db.ask(ctx, t, selectIngress+`WHERE tenant = $1 AND site = $2 ORDER BY version DESC`, t, site), scanIngress)
}

func scanIngress(r row) (i tenant.Ingress, err error) {
	var created int64
	err = r.Scan(&i.Tenant, &i.Site, &i.Version, &i.YAML, &created, &i.By)
	i.Created = moment(created)
	return i, err
}
