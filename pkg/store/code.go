package store

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
)

type codes struct{ db *DB }

func (c codes) PutCode(ctx context.Context, one emailotp.Code) error {
	return c.db.update(ctx, one.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO codes (tenant, id, account, user_id, mac, tries, expires, target)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (tenant, id) DO UPDATE SET account = excluded.account, user_id = excluded.user_id, mac = excluded.mac,
				tries = excluded.tries, expires = excluded.expires, target = excluded.target`,
			one.Tenant, one.ID, some(one.Account), one.User, some(one.MAC), one.Tries, millis(one.Expires), some(one.Return))
		if absent(err) {
			return fault.New(fault.NotFound, "no such tenant: %s", one.Tenant)
		}
		return err
	})
}

// TryCode counts the try before anything is compared, so that tries at the same time all count.
func (c codes) TryCode(ctx context.Context, tenant id.Tenant, code string, now time.Time) (emailotp.Code, error) {
	found := emailotp.Code{Tenant: tenant, ID: code}
	var expires int64
	err := c.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		err := tx.QueryRowContext(ctx, `UPDATE codes SET tries = tries + 1
			WHERE tenant = $1 AND id = $2 AND expires > $3 AND tries < $4
			RETURNING account, user_id, mac, tries, expires, target`, tenant, code, millis(now), emailotp.MaxTries).
			Scan(&found.Account, &found.User, &found.MAC, &found.Tries, &expires, &found.Return)
		if missing(err) {
			return fault.New(fault.Denied, "this code cannot be used: ask for a new one")
		}
		return err
	})
	if err != nil {
		return emailotp.Code{}, err
	}
	found.Expires = moment(expires)
	return found, nil
}

func (c codes) SpendCode(ctx context.Context, tenant id.Tenant, code string) (bool, error) {
	return c.met(ctx, tenant, `DELETE FROM codes WHERE tenant = $1 AND id = $2`, tenant, code)
}

// takeToken moves the time at which the bucket is full again by one interval ($4), unless it would then lie more than the
// whole bucket ($5 = burst × interval) after now ($3). A time that lies further ahead than a bucket can reach means that
// the clock was set back or the bucket made smaller; it then counts as one token left, and not as empty for hours.
const takeToken = `INSERT INTO buckets (tenant, bucket, full_at) VALUES ($1, $2, CAST($3 AS BIGINT) + CAST($4 AS BIGINT))
	ON CONFLICT (tenant, bucket) DO UPDATE SET full_at = $4 + CASE
		WHEN buckets.full_at <= $3 THEN $3
		WHEN buckets.full_at > $3 + $5 THEN $3 + $5 - $4
		ELSE buckets.full_at END
	WHERE buckets.full_at + $4 <= $3 + $5 OR buckets.full_at > $3 + $5`

// Take counts in milliseconds; a shorter interval counts as one.
func (c codes) Take(
	ctx context.Context, tenant id.Tenant, bucket string, burst int, interval time.Duration, now time.Time,
) (bool, error) {
	if burst <= 0 {
		return false, nil
	}
	refill := max(interval.Milliseconds(), 1)
	return c.met(ctx, tenant, takeToken, tenant, bucket, millis(now), refill, refill*int64(burst))
}

func (c codes) Known(ctx context.Context, tenant id.Tenant, browser string, account []byte) (bool, error) {
	var one int
	err := c.db.ask(ctx, tenant, `SELECT 1 FROM known_browsers WHERE tenant = $1 AND browser = $2 AND account = $3`,
		tenant, browser, some(account)).Scan(&one)
	if missing(err) {
		return false, nil
	}
	return err == nil, explain(err)
}

func (c codes) Remember(ctx context.Context, tenant id.Tenant, browser string, account []byte, now time.Time) error {
	_, err := c.met(ctx, tenant, `INSERT INTO known_browsers (tenant, browser, account, seen) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, browser, account) DO UPDATE SET seen = excluded.seen`,
		tenant, browser, some(account), millis(now))
	return err
}

// met runs one conditional write and reports whether it met a row.
func (c codes) met(ctx context.Context, tenant id.Tenant, query string, args ...any) (bool, error) {
	var n int64
	err := c.db.update(ctx, tenant, func(ctx context.Context, tx *tx) (err error) {
		n, err = tx.affected(ctx, query, args...)
		if absent(err) {
			return fault.New(fault.NotFound, "no such tenant")
		}
		return err
	})
	return n > 0, err
}

// some is b, or an empty value that is not NULL.
func some(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
