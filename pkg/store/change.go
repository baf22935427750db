package store

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/change"
)

type changes struct{ db *DB }

func (c changes) Since(ctx context.Context, version int64, limit int) ([]change.Change, error) {
	return list(c.db.ask(ctx, everyTenant, `SELECT version, tenant, kind, ref FROM changes WHERE version > $1 ORDER BY version LIMIT $2`, version, limit), func(r row) (one change.Change, err error) {
		err = r.Scan(&one.Version, &one.Tenant, &one.Kind, &one.ID)
		return one, err
	})
}

func (c changes) Version(ctx context.Context) (version int64, err error) {
	err = c.db.ask(ctx, everyTenant, `SELECT version FROM change_head WHERE id = 1`).Scan(&version)
	return version, explain(err)
}
