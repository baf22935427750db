package store

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

type authorities struct{ db *DB }

var _ cluster.AuthorityStore = authorities{}

const authorityPurpose = "cluster/authority"

func (s authorities) Authority(ctx context.Context) (a cluster.AuthorityKey, err error) {
	var sealed []byte
	var created int64
	err = s.db.ask(ctx, everyTenant, `SELECT certificate, key_sealed, created FROM cluster_authority WHERE id = 1`).
		Scan(&a.Certificate, &sealed, &created)
	switch {
	case missing(err):
		return cluster.AuthorityKey{}, fault.New(fault.NotFound, "the cluster has no authority yet")
	case err != nil:
		return cluster.AuthorityKey{}, explain(err)
	}
	a.Created = moment(created)
	a.Key, err = s.db.sealer.Open(authorityPurpose, sealed)
	return a, err
}

func (s authorities) CreateAuthority(ctx context.Context, a cluster.AuthorityKey) error {
	sealed, err := s.db.sealer.Seal(authorityPurpose, a.Key)
	if err != nil {
		return err
	}
	return s.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `INSERT INTO cluster_authority (id, certificate, key_sealed, created) VALUES (1, $1, $2, $3)
			ON CONFLICT (id) DO NOTHING`, a.Certificate, sealed, millis(a.Created))
		if err == nil && n == 0 {
			return fault.New(fault.Exists, "the cluster has an authority")
		}
		return err
	})
}
