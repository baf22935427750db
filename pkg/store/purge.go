package store

import (
	"context"
	"time"
)

const (
	// purgeBatch rows go in one transaction, so that a request's record never waits long behind cleaning up.
	purgeBatch = 500
	// sessionsStay after their end, for lists of what was. What was decided in them is in the records and stays.
	sessionsStay = 30 * 24 * time.Hour
	// browsersStay known: no cookie lives longer than 400 days (RFC 6265bis §5.5).
	browsersStay = 400 * 24 * time.Hour
	// batchesStay is how long a batch of records may take to come again (audit.Merger).
	batchesStay = 60 * 24 * time.Hour
)

// Purge deletes what nobody can use any more: expired codes and handoffs, full buckets, browsers not seen for 400 days, and
// sessions 30 days after their end.
func (c codes) Purge(ctx context.Context, now time.Time) error {
	for _, p := range []struct {
		query  string
		before time.Time
	}{
		{`DELETE FROM codes WHERE (tenant, id) IN (SELECT tenant, id FROM codes WHERE expires <= $1 LIMIT $2)`, now},
		{`DELETE FROM buckets WHERE (tenant, bucket) IN (SELECT tenant, bucket FROM buckets WHERE full_at <= $1 LIMIT $2)`, now},
		{`DELETE FROM handoffs WHERE (tenant, hash) IN (SELECT tenant, hash FROM handoffs WHERE expires <= $1 LIMIT $2)`, now},
		{`DELETE FROM known_browsers WHERE (tenant, browser, account) IN
			(SELECT tenant, browser, account FROM known_browsers WHERE seen <= $1 LIMIT $2)`, now.Add(-browsersStay)},
		{`DELETE FROM audit_batches WHERE id IN (SELECT id FROM audit_batches WHERE at <= $1 LIMIT $2)`, now.Add(-batchesStay)},
		{`DELETE FROM sessions WHERE (tenant, id) IN (SELECT tenant, id FROM sessions
			WHERE expires <= $1 OR last_seen + idle_ms <= $1 OR (revoked > 0 AND revoked <= $1) LIMIT $2)`, now.Add(-sessionsStay)},
	} {
		if err := c.purge(ctx, p.query, millis(p.before)); err != nil {
			return err
		}
	}
	return c.db.engine.tidy(ctx, c.purge)
}

// purge repeats a query that deletes up to $2 rows from before $1.
func (c codes) purge(ctx context.Context, query string, before int64) error {
	for {
		var n int64
		err := c.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) (err error) {
			n, err = tx.affected(ctx, query, before, purgeBatch)
			return err
		})
		if err != nil || n < purgeBatch {
			return err
		}
	}
}
