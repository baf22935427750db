package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// History tells one line of a database's life from another (PostgreSQL manual, "Timelines"). Copies of a server have its system
// identifier; each promotion of a copy, and each recovery to a point in time, begins a timeline with a higher number. So of two servers that
// both take writes the one with the lower number has been left behind: what is written there is lost when it becomes a copy again.
type History struct {
	System   string // system identifier, decimal
	Timeline int64
}

// IsZero reports whether nothing is known.
func (h History) IsZero() bool { return h == History{} }

// String is System/Timeline.
func (h History) String() string { return h.System + "/" + strconv.FormatInt(h.Timeline, 10) }

// ParseHistory reads what String wrote.
func ParseHistory(text string) (History, error) {
	system, number, _ := strings.Cut(text, "/")
	_, err := strconv.ParseUint(system, 10, 64)
	timeline, errTimeline := strconv.ParseUint(number, 10, 32)
	h := History{System: system, Timeline: int64(timeline)}
	// What is written in another way would be taken for another system.
	if err = errors.Join(err, errTimeline); err != nil || timeline == 0 || system[0] == '0' || h.String() != text {
		return History{}, fault.New(fault.Invalid, "history of a database %.60q: want SYSTEM/TIMELINE", text)
	}
	return h, nil
}

// LeftBehind reports whether err says that only servers answer of another or an earlier history than was seen.
func LeftBehind(err error) bool {
	var behind *leftBehindError
	return errors.As(err, &behind)
}

// lineage is which history this process works on. It only ever goes on to a later one.
type lineage struct {
	mu   sync.Mutex // guards what follows
	seen History
	when func(History) // called with each that is new; without the lock
}

// leftBehindError refuses a server.
type leftBehindError struct{ words string }

func (e *leftBehindError) Error() string { return e.words }

// admit takes a history for the present one, or refuses it.
func (l *lineage) admit(h History) error {
	l.mu.Lock()
	seen, when := l.seen, l.when
	switch {
	case !seen.IsZero() && h.System != seen.System:
		l.mu.Unlock()
		return &leftBehindError{fmt.Sprintf("another PostgreSQL cluster answers (system identifier %s) than the one that was worked on (%s)", h.System, seen.System)}
	case h.Timeline < seen.Timeline:
		l.mu.Unlock()
		return &leftBehindError{fmt.Sprintf("a server answers that is on timeline %d, and another one was promoted to timeline %d: "+
			"stop the former primary, and make it a standby of the new one", h.Timeline, seen.Timeline)}
	case h == seen:
		l.mu.Unlock()
		return nil
	}
	l.seen = h
	l.mu.Unlock()
	if when != nil {
		when(h)
	}
	return nil
}

// outdated reports whether a connection leads to a server that has been left behind meanwhile.
func (l *lineage) outdated(h History) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !h.IsZero() && h.Timeline < l.seen.Timeline
}

// historyKey is under which a connection keeps the history of its server.
const historyKey = "sallyport.history"

// validator asks each server that would be connected to for its history, once what was asked before is answered well.
func (l *lineage) validator(before pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, c); err != nil {
				return err
			}
		}
		h, err := historyOf(ctx, c)
		if err != nil || h.IsZero() {
			return err
		}
		c.CustomData()[historyKey] = h
		return l.admit(h)
	}
}

// selectHistory is open to every role. The timeline is that which the server writes: its control file has a new one only after a checkpoint.
const selectHistory = `SELECT (SELECT system_identifier FROM pg_control_system())::text,
	('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint::text`

// historyOf is zero where the server does not let the role know; a service that is no plain PostgreSQL may.
func historyOf(ctx context.Context, c *pgconn.PgConn) (History, error) {
	results, err := c.Exec(ctx, selectHistory).ReadAll()
	var said *pgconn.PgError
	if errors.As(err, &said) && (said.Code == pgNoPrivilege || said.Code == pgNoFunction || said.Code == pgNotSupported) {
		return History{}, nil
	}
	if err != nil {
		return History{}, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return History{}, errors.New("the server does not tell its timeline")
	}
	row := results[0].Rows[0]
	return ParseHistory(string(row[0]) + "/" + string(row[1]))
}

// History is the line of the database's life that this process works on; zero on SQLite, and where the server does not tell.
func (db *DB) History() History {
	db.lineage.mu.Lock()
	defer db.lineage.mu.Unlock()
	return db.lineage.seen
}

// LeaveBehind has servers of an earlier history than h, which another edge works on, not be written to any more.
func (db *DB) LeaveBehind(h History) error {
	if db.History().IsZero() {
		return nil // this server does not tell
	}
	return db.lineage.admit(h)
}
