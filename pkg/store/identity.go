package store

import (
	"context"
	"fmt"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
)

type users struct{ db *DB }

const selectUser = `SELECT tenant, id, issuer, subject, email_sealed, disabled, created FROM users `

// emailPurpose keeps addresses of one tenant from being recognised, or opened, as another's.
func emailPurpose(tenant id.Tenant) string { return string(tenant) + "/email" }

func (u users) CreateUser(ctx context.Context, user identity.User) error {
	mac, err := u.db.sealer.MAC(emailPurpose(user.Tenant), []byte(user.Email))
	if err != nil {
		return err
	}
	sealed, err := u.db.sealer.Seal(emailPurpose(user.Tenant), []byte(user.Email))
	if err != nil {
		return err
	}
	return u.db.update(ctx, user.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO users (tenant, id, issuer, subject, email_mac, email_sealed, disabled, created)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			user.Tenant, user.ID, user.Issuer, user.Subject, mac, sealed, flag(user.Disabled), millis(user.Created))
		switch {
		case taken(err):
			return fault.New(fault.Exists, "the clinic has this user already")
		case absent(err):
			return fault.New(fault.NotFound, "no such tenant: %s", user.Tenant)
		case err != nil:
			return err
		}
		return tx.log(ctx, user.Tenant, change.User, string(user.ID))
	})
}

func (u users) User(ctx context.Context, tenant id.Tenant, user id.User) (identity.User, error) {
	return u.one(u.db.ask(ctx, tenant, selectUser+`WHERE tenant = $1 AND id = $2`, tenant, user))
}

func (u users) UserByEmail(ctx context.Context, tenant id.Tenant, email string) (identity.User, error) {
	mac, err := u.db.sealer.MAC(emailPurpose(tenant), []byte(email))
	if err != nil {
		return identity.User{}, err
	}
	return u.one(u.db.ask(ctx, tenant, selectUser+`WHERE tenant = $1 AND email_mac = $2 AND issuer = 'sallyport'`, tenant, mac))
}

func (u users) Users(ctx context.Context, tenant id.Tenant) ([]identity.User, error) {
	return list(u.db.ask(ctx, tenant, selectUser+`WHERE tenant = $1 ORDER BY created, id`, tenant), u.scan)
}

func (u users) SetDisabled(ctx context.Context, tenant id.Tenant, user id.User, disabled bool) error {
	return u.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE users SET disabled = $3 WHERE tenant = $1 AND id = $2`, tenant, user, flag(disabled))
		switch {
		case err != nil:
			return err
		case n == 0:
			return noUser()
		case disabled:
			if err := revokeSessionsOf(ctx, tx, tenant, user, u.db.now()); err != nil {
				return err
			}
		}
		return tx.log(ctx, tenant, change.User, string(user))
	})
}

func (u users) one(r row) (identity.User, error) {
	user, err := u.scan(r)
	if missing(err) {
		return identity.User{}, noUser()
	}
	return user, explain(err)
}

func (u users) scan(r row) (user identity.User, err error) {
	var sealed []byte
	var disabled, created int64
	if err := r.Scan(&user.Tenant, &user.ID, &user.Issuer, &user.Subject, &sealed, &disabled, &created); err != nil {
		return identity.User{}, err
	}
	email, err := u.db.sealer.Open(emailPurpose(user.Tenant), sealed)
	if err != nil {
		return identity.User{}, fmt.Errorf("address of %s: %w", user.ID, err)
	}
	user.Email, user.Disabled, user.Created = string(email), disabled != 0, moment(created)
	return user, nil
}

func noUser() error { return fault.New(fault.NotFound, "no such user in this clinic") }

// flag is how truth is kept: BOOLEAN reads back differently from each database.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
