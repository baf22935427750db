package store

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

type enrolment struct{ db *DB }

const selectConnector = `SELECT tenant, id, site, public_key, created, revoked, frozen, generation FROM connectors `

// CreateInvite appends nothing to the change log: no cache holds invitations.
func (e enrolment) CreateInvite(ctx context.Context, i enroll.Invite) error {
	return e.db.update(ctx, i.Tenant, func(ctx context.Context, tx *tx) error {
		if err := tx.requireSite(ctx, i.Tenant, i.Site); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO invites (tenant, id, site, hash, expires, created, spent, connector)
			VALUES ($1, $2, $3, $4, $5, $6, 0, '')`, i.Tenant, i.ID, i.Site, i.Hash, millis(i.Expires), millis(i.Created))
		if taken(err) {
			return fault.New(fault.Exists, "the invitation exists already")
		}
		return err
	})
}

func (e enrolment) Enroll(
	ctx context.Context, hash string, key ed25519.PublicKey, c id.Connector, now time.Time,
) (enroll.Connector, error) {
	made := enroll.Connector{ID: c, PublicKey: key, Created: moment(millis(now))}
	err := e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		err := tx.QueryRowContext(ctx, `UPDATE invites SET spent = $2, connector = $3
			WHERE hash = $1 AND spent = 0 AND expires > $2 RETURNING tenant, site`,
			hash, millis(now), c).Scan(&made.Tenant, &made.Site)
		if missing(err) {
			return fault.New(fault.Denied, "this enrolment code cannot be used: ask for a new one")
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO connectors (tenant, id, site, public_key, created, revoked, frozen, generation)
			VALUES ($1, $2, $3, $4, $5, 0, '', 0)`, made.Tenant, c, made.Site, []byte(key), millis(now))
		if taken(err) {
			return fault.New(fault.Exists, "connector %s exists already", c)
		}
		if err != nil {
			return err
		}
		return tx.log(ctx, made.Tenant, change.Connector, string(c))
	})
	if err != nil {
		return enroll.Connector{}, err
	}
	return made, nil
}

func (e enrolment) Connector(ctx context.Context, c id.Connector) (enroll.Connector, error) {
	one, err := scanConnector(e.db.ask(ctx, everyTenant, selectConnector+`WHERE id = $1`, c))
	if missing(err) {
		return enroll.Connector{}, noConnector()
	}
	return one, explain(err)
}

func (e enrolment) Connectors(ctx context.Context, tenant id.Tenant) ([]enroll.Connector, error) {
	return list(e.db.ask(ctx, tenant, selectConnector+`WHERE tenant = $1 ORDER BY created, id`, tenant), scanConnector)
}

// RevokeConnector of one that is revoked already is no error and keeps the first time.
func (e enrolment) RevokeConnector(ctx context.Context, tenant id.Tenant, c id.Connector, at time.Time) error {
	return e.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		var revoked int64
		err := tx.QueryRowContext(ctx, `SELECT revoked FROM connectors WHERE tenant = $1 AND id = $2`, tenant, c).Scan(&revoked)
		switch {
		case missing(err):
			return noConnector()
		case err != nil, revoked != 0:
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE connectors SET revoked = $3 WHERE tenant = $1 AND id = $2 AND revoked = 0`,
			tenant, c, millis(at))
		if err != nil {
			return err
		}
		return tx.log(ctx, tenant, change.Connector, string(c))
	})
}

// SetFrozen appends to the change log, so that every edge cuts the links, or takes them again.
func (e enrolment) SetFrozen(ctx context.Context, tenant id.Tenant, c id.Connector, why string) error {
	return e.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		var before string
		err := tx.QueryRowContext(ctx, `SELECT frozen FROM connectors WHERE tenant = $1 AND id = $2`, tenant, c).Scan(&before)
		switch {
		case missing(err):
			return noConnector()
		case err != nil, before == why:
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE connectors SET frozen = $3 WHERE tenant = $1 AND id = $2`, tenant, c, why); err != nil {
			return err
		}
		if why == "" {
			_, err := tx.ExecContext(ctx, `UPDATE runs SET returned = 0 WHERE tenant = $1 AND connector = $2 AND returned <> 0`, tenant, c)
			if err != nil {
				return err
			}
		}
		return tx.log(ctx, tenant, change.Connector, string(c))
	})
}

func scanConnector(r row) (c enroll.Connector, err error) {
	var key []byte
	var created, revoked, newest int64
	err = r.Scan(&c.Tenant, &c.ID, &c.Site, &key, &created, &revoked, &c.Frozen, &newest)
	c.Newest = uint64(newest)
	c.PublicKey, c.Created, c.Revoked = key, moment(created), moment(revoked)
	return c, err
}

func noConnector() error { return fault.New(fault.NotFound, "no such connector") }
