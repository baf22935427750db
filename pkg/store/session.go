package store

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

type sessions struct{ db *DB }

const (
	sessionColumns = `s.tenant, s.id, s.user_id, s.methods, s.created, s.last_seen, s.expires, s.idle_ms, s.revoked, s.client, s.source`

	selectSession = `SELECT ` + sessionColumns + ` FROM sessions s WHERE s.tenant = $1 AND s.id = $2`

	selectSessionByReference = `SELECT ` + sessionColumns + ` FROM session_references r
		JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session
		WHERE r.tenant = $1 AND r.hash = $2 AND r.host = $3`

	// sessionLives is session.Session.Live at $3.
	sessionLives = `revoked = 0 AND expires > $3 AND last_seen + idle_ms > $3`
)

func (s sessions) CreateSession(ctx context.Context, one session.Session, signIn session.Reference) error {
	if signIn.Tenant != one.Tenant || signIn.Session != one.ID {
		return fault.New(fault.Invalid, "the reference belongs to another session")
	}
	return s.db.update(ctx, one.Tenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions
			(tenant, id, user_id, methods, created, last_seen, expires, idle_ms, revoked, client, source)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			one.Tenant, one.ID, one.User, words(one.Methods), millis(one.Created), millis(one.LastSeen), millis(one.Expires),
			one.IdleFor.Milliseconds(), millis(one.Revoked), one.Client, one.Source)
		switch {
		case taken(err):
			return fault.New(fault.Exists, "the session exists already")
		case absent(err):
			return noUser()
		case err != nil:
			return err
		}
		// Who was locked out while they signed in has no session that SetDisabled ended, and must not be given one now.
		var disabled int64
		// The update holds the row, so that locking out comes before or after all of this.
		err = tx.QueryRowContext(ctx, `UPDATE users SET disabled = disabled WHERE tenant = $1 AND id = $2 RETURNING disabled`,
			one.Tenant, one.User).Scan(&disabled)
		switch {
		case err != nil:
			return err
		case disabled != 0:
			return fault.New(fault.Denied, "the user is locked out")
		}
		return tx.addReference(ctx, signIn)
	})
}

func (t *tx) addReference(ctx context.Context, r session.Reference) error {
	_, err := t.ExecContext(ctx, `INSERT INTO session_references (tenant, hash, session, host, created)
		VALUES ($1, $2, $3, $4, $5)`, r.Tenant, r.Hash, r.Session, r.Host, millis(r.Created))
	if taken(err) {
		return fault.New(fault.Exists, "the reference exists already")
	}
	return err
}

func (s sessions) SessionByReference(ctx context.Context, tenant id.Tenant, hash, host string) (session.Session, error) {
	return foundSession(s.db.ask(ctx, tenant, selectSessionByReference, tenant, hash, host))
}

func (s sessions) Session(ctx context.Context, tenant id.Tenant, one id.Session) (session.Session, error) {
	return foundSession(s.db.ask(ctx, tenant, selectSession, tenant, one))
}

func (s sessions) Sessions(ctx context.Context, tenant id.Tenant, now time.Time) ([]session.Session, error) {
	return list(s.db.ask(ctx, tenant, `SELECT `+sessionColumns+` FROM sessions s
		WHERE s.tenant = $1 AND s.revoked = 0 AND s.expires > $2 AND s.last_seen + s.idle_ms > $2
		ORDER BY s.created DESC, s.id DESC`, tenant, millis(now)), scanSession)
}

// touch is a session that is in use.
type touch struct {
	tenant  id.Tenant
	session id.Session
	seen    int64 // Unix milliseconds
}

// Touch fails with fault.Denied for a session that is over at seen. Those that come at a time share a transaction: everybody at work
// is noted once a minute.
func (s sessions) Touch(ctx context.Context, tenant id.Tenant, one id.Session, seen time.Time) error {
	_, err := s.db.touches.ask(ctx, s.db, touch{tenant, one, millis(seen)})
	return err
}

const touchSession = `UPDATE sessions SET last_seen = CASE WHEN last_seen < $3 THEN $3 ELSE last_seen END
	WHERE tenant = $1 AND id = $2 AND ` + sessionLives + ` RETURNING id`

func touchAll(ctx context.Context, tx *tx, all []*question[touch]) error {
	order(all, func(a, b touch) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.session, b.session))
	})
	rows := make([][]any, len(all))
	for i, one := range all {
		rows[i] = []any{one.of.tenant, one.of.session, one.of.seen}
	}
	var unmet []*question[touch]
	err := tx.askEach(ctx, touchSession, rows, func(i int, r row) error {
		var one string
		err := r.Scan(&one)
		if missing(err) {
			unmet, err = append(unmet, all[i]), nil
		}
		return err
	})
	for _, one := range unmet {
		if err != nil {
			break
		}
		switch _, unknown := foundSession(tx.QueryRowContext(ctx, selectSession, one.of.tenant, one.of.session)); {
		case fault.Is(unknown, fault.NotFound):
			one.err = unknown
		case unknown != nil:
			err = unknown
		default:
			one.err = fault.New(fault.Denied, "the session is over")
		}
	}
	return err
}

func (s sessions) Revoke(ctx context.Context, tenant id.Tenant, one id.Session, at time.Time) error {
	return s.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE sessions SET revoked = $3 WHERE tenant = $1 AND id = $2 AND revoked = 0`,
			tenant, one, millis(at))
		if err != nil {
			return err
		}
		if n == 0 {
			_, err := foundSession(tx.QueryRowContext(ctx, selectSession, tenant, one))
			return err
		}
		return tx.log(ctx, tenant, change.Session, string(one))
	})
}

// revokeSessionsOf ends every session of a user.
func revokeSessionsOf(ctx context.Context, tx *tx, tenant id.Tenant, user id.User, at time.Time) error {
	rows, err := tx.QueryContext(ctx, `UPDATE sessions SET revoked = $3
		WHERE tenant = $1 AND user_id = $2 AND revoked = 0 RETURNING id`, tenant, user, millis(at))
	ended, err := collect(rows, err, func(r row) (one string, err error) { return one, r.Scan(&one) })
	if err != nil {
		return err
	}
	for _, one := range ended {
		if err := tx.log(ctx, tenant, change.Session, one); err != nil {
			return err
		}
	}
	return nil
}

func foundSession(r row) (session.Session, error) {
	s, err := scanSession(r)
	if missing(err) {
		return session.Session{}, fault.New(fault.NotFound, "no such session")
	}
	return s, explain(err)
}

func scanSession(r row) (s session.Session, err error) {
	var methods string
	var created, seen, expires, idle, revoked int64
	err = r.Scan(&s.Tenant, &s.ID, &s.User, &methods, &created, &seen, &expires, &idle, &revoked, &s.Client, &s.Source)
	if err != nil {
		return session.Session{}, err
	}
	s.Methods = strings.Fields(methods)
	s.Created, s.LastSeen, s.Expires, s.Revoked = moment(created), moment(seen), moment(expires), moment(revoked)
	s.IdleFor = time.Duration(idle) * time.Millisecond
	return s, nil
}

// words is how lists of RFC 8176 values are kept: none of them has a space.
func words(list []string) string { return strings.Join(list, " ") }
