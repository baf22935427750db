package store

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

func (s sessions) CreateHandoff(ctx context.Context, h session.Handoff) error {
	return s.db.update(ctx, h.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO handoffs (tenant, hash, session, host, flow, expires)
			VALUES ($1, $2, $3, $4, $5, $6)`, h.Tenant, h.Hash, h.Session, h.Host, h.Flow, millis(h.Expires))
		switch {
		case taken(err):
			return fault.New(fault.Exists, "the code exists already")
		case absent(err):
			return fault.New(fault.NotFound, "no such session")
		}
		return err
	})
}

// RedeemHandoff spends a code by deleting its row: of many, one finds it. Only a live session is handed on. ref gets its
// tenant, session and host from the code, whatever it says itself.
func (s sessions) RedeemHandoff(
	ctx context.Context, tenant id.Tenant, hash, host, flow string, now time.Time, ref session.Reference,
) (session.Session, error) {
	var found session.Session
	err := s.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		err := tx.QueryRowContext(ctx, `DELETE FROM handoffs
			WHERE tenant = $1 AND hash = $2 AND host = $3 AND flow = $4 AND expires > $5 RETURNING session`,
			tenant, hash, host, flow, millis(now)).Scan(&ref.Session)
		if missing(err) {
			return deniedHandoff()
		}
		if err != nil {
			return err
		}
		if found, err = foundSession(tx.QueryRowContext(ctx, selectSession, tenant, ref.Session)); err != nil {
			return err
		}
		if !found.Live(now) {
			return deniedHandoff()
		}
		ref.Tenant, ref.Host = tenant, host
		return tx.addReference(ctx, ref)
	})
	if err != nil {
		return session.Session{}, err
	}
	return found, nil
}

func deniedHandoff() error {
	return fault.New(fault.Denied, "this sign-in has been used or is too old")
}
