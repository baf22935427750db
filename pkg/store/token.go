package store

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

type services struct{ db *DB }

// touchEvery is how often the use of one token is written down.
const touchEvery = time.Minute

const (
	tokenColumns       = `tenant, id, service, created, expires, last_used, revoked`
	selectServiceToken = `SELECT ` + tokenColumns + ` FROM service_tokens WHERE tenant = $1 AND id = $2`
)

func (s services) CreateServiceToken(ctx context.Context, t token.ServiceToken) error {
	return s.db.update(ctx, t.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO service_tokens (`+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.Tenant, t.ID, t.Service, millis(t.Created), millis(t.Expires), millis(t.LastUsed), millis(t.Revoked))
		switch {
		case taken(err):
			return fault.New(fault.Exists, "the token exists already")
		case absent(err):
			return fault.New(fault.NotFound, "no such tenant: %s", t.Tenant)
		case err != nil:
			return err
		}
		return tx.log(ctx, t.Tenant, change.Token, string(t.ID))
	})
}

func (s services) ServiceToken(ctx context.Context, tenant id.Tenant, one id.Token) (token.ServiceToken, error) {
	return foundToken(s.db.ask(ctx, tenant, selectServiceToken, tenant, one))
}

func (s services) ServiceTokens(ctx context.Context, tenant id.Tenant) ([]token.ServiceToken, error) {
	return list(s.db.ask(ctx, tenant, `SELECT `+tokenColumns+` FROM service_tokens WHERE tenant = $1 ORDER BY created, id`, tenant), scanToken)
}

// RevokeServiceToken is final; revoking again is no error and keeps the first time.
func (s services) RevokeServiceToken(ctx context.Context, tenant id.Tenant, one id.Token, at time.Time) error {
	return s.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE service_tokens SET revoked = $3 WHERE tenant = $1 AND id = $2 AND revoked = 0`,
			tenant, one, millis(at))
		if err != nil {
			return err
		}
		if n == 0 {
			_, err := foundToken(tx.QueryRowContext(ctx, selectServiceToken, tenant, one))
			return err
		}
		return tx.log(ctx, tenant, change.Token, string(one))
	})
}

// TouchServiceToken reads first: most calls have nothing to write and need not wait for the writer.
func (s services) TouchServiceToken(ctx context.Context, tenant id.Tenant, one id.Token, at time.Time) error {
	t, err := s.ServiceToken(ctx, tenant, one)
	if err != nil {
		return err
	}
	if at.Sub(t.LastUsed) < touchEvery {
		return nil
	}
	return s.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE service_tokens SET last_used = $3 WHERE tenant = $1 AND id = $2 AND last_used <= $4`,
			tenant, one, millis(at), millis(at.Add(-touchEvery)))
		return err
	})
}

func foundToken(r row) (token.ServiceToken, error) {
	t, err := scanToken(r)
	if missing(err) {
		return token.ServiceToken{}, fault.New(fault.NotFound, "no such token in this clinic")
	}
	return t, explain(err)
}

func scanToken(r row) (t token.ServiceToken, err error) {
	var created, expires, used, revoked int64
	err = r.Scan(&t.Tenant, &t.ID, &t.Service, &created, &expires, &used, &revoked)
	t.Created, t.Expires, t.LastUsed, t.Revoked = moment(created), moment(expires), moment(used), moment(revoked)
	return t, err
}

type keys struct{ db *DB }

func keyPurpose(k token.Kind) string { return "key/" + string(k) }

// CreateKey takes a key as current at k.Created while its NotAfter lies later or is zero, and it is not retired.
func (s keys) CreateKey(ctx context.Context, k token.Key) error {
	sealed, err := s.db.sealer.Seal(keyPurpose(k.Kind), k.Seed)
	if err != nil {
		return err
	}
	return s.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		var last, current int64
		err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0), COALESCE(SUM(CASE
				WHEN (not_after = 0 OR not_after > $2) AND (retired = 0 OR retired > $2) THEN 1 ELSE 0 END), 0)
			FROM signing_keys WHERE kind = $1`, k.Kind, millis(k.Created)).Scan(&last, &current)
		if err != nil {
			return err
		}
		if current > 0 {
			return takenKey(k.Kind)
		}
		// Where writers do not wait for each other, the number is what only one of them gets.
		_, err = tx.ExecContext(ctx, `INSERT INTO signing_keys (kind, number, id, seed, created, not_after, retired)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			k.Kind, last+1, k.ID, sealed, millis(k.Created), millis(k.NotAfter), millis(k.Retired))
		if taken(err) {
			return takenKey(k.Kind)
		}
		if err != nil {
			return err
		}
		return tx.log(ctx, "", change.Key, k.ID)
	})
}

func (s keys) RotateKey(ctx context.Context, k token.Key, notAfter, retired time.Time) error {
	sealed, err := s.db.sealer.Seal(keyPurpose(k.Kind), k.Seed)
	if err != nil {
		return err
	}
	return s.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		var last int64
		err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM signing_keys WHERE kind = $1`, k.Kind).Scan(&last)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE signing_keys SET
				not_after = CASE WHEN not_after = 0 OR not_after > $2 THEN $2 ELSE not_after END,
				retired = CASE WHEN retired = 0 OR retired > $3 THEN $3 ELSE retired END
			WHERE kind = $1`, k.Kind, millis(notAfter), millis(retired))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO signing_keys (kind, number, id, seed, created, not_after, retired)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			k.Kind, last+1, k.ID, sealed, millis(k.Created), millis(k.NotAfter), millis(k.Retired))
		if taken(err) {
			return fault.New(fault.Conflict, "somebody else replaces a key of kind %s just now: look whether that will do", k.Kind)
		}
		if err != nil {
			return err
		}
		return tx.log(ctx, "", change.Key, k.ID)
	})
}

func takenKey(kind token.Kind) error {
	return fault.New(fault.Exists, "a key of kind %s is current already", kind)
}

func (s keys) Keys(ctx context.Context) ([]token.Key, error) {
	return list(s.db.ask(ctx, everyTenant, `SELECT kind, id, seed, created, not_after, retired FROM signing_keys ORDER BY kind, number`), func(r row) (k token.Key, err error) {
		var sealed []byte
		var created, notAfter, retired int64
		if err := r.Scan(&k.Kind, &k.ID, &sealed, &created, &notAfter, &retired); err != nil {
			return token.Key{}, err
		}
		k.Created, k.NotAfter, k.Retired = moment(created), moment(notAfter), moment(retired)
		if k.Seed, err = s.db.sealer.Open(keyPurpose(k.Kind), sealed); err != nil {
			return token.Key{}, fmt.Errorf("signing key %s: %w", k.ID, err)
		}
		return k, nil
	})
}
