package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// explain gives a fault code and words to what the database itself says. Uniqueness and references that a caller can break
// are answered where they are known (taken, absent); what reaches this function otherwise is the machine's trouble or ours.
func explain(err error) error {
	if words := postgresWords(err); words != "" && fault.CodeOf(err) != fault.Unavailable {
		return unavailable(words, err)
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		return unavailable("the disk of the edge's store is full", err)
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return unavailable("the edge's store cannot be written: its disk or file is read-only", err)
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN:
		return unavailable("the disk of the edge's store fails", err)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return unavailable("the edge's store is busy", err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return unavailable("the edge's store is damaged: restore the back-up", err)
	}
	return err
}

func unavailable(words string, cause error) error {
	return fault.New(fault.Unavailable, "%s", words).Because(cause)
}

// The codes of PostgreSQL's answers that mean something here (its manual, appendix A).
const (
	pgUnique             = "23505"
	pgForeignKey         = "23503"
	pgSerialization      = "40001"
	pgDeadlock           = "40P01"
	pgTooManyConnections = "53300"
	pgReadOnly           = "25006"
	pgNoPrivilege        = "42501"
	pgNoFunction         = "42883"
	pgNotSupported       = "0A000"
)

// afterOutage is true because a commit that may have taken place has words of its own.
const afterOutage = ": nothing was changed; try again when the database answers this edge"

// postgresWords is for the operator; empty for what is no trouble of the database's.
func postgresWords(err error) string {
	var behind *leftBehindError
	if errors.As(err, &behind) {
		return "the edge's store: " + behind.words
	}
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		if (pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, context.Canceled) {
			return "the edge's store does not answer in time" + afterOutage
		}
		if lost(err) {
			return "the edge's store cannot be reached" + afterOutage
		}
		return ""
	}
	switch code := said.Code; {
	case code == "53100":
		return "the disk of the edge's store is full"
	case code == pgReadOnly:
		return "the edge's store cannot be written: its database is read-only"
	case code == "58030":
		return "the disk of the edge's store fails"
	case code == pgTooManyConnections, code == "53200", code == "57014", code == "55P03", code == pgSerialization, code == pgDeadlock:
		return "the edge's store is busy"
	case code == "XX001", code == "XX002":
		return "the edge's store is damaged: restore the back-up"
	case strings.HasPrefix(code, "28"):
		return "the edge's store refuses the edge's name or password"
	case code == "3D000":
		return "the edge's store: there is no such database"
	case code == pgNoPrivilege && !strings.Contains(said.Message, "row-level security"): // that one would be our own mistake
		return "the edge's store: its role must own the database's schema"
	case unreachable(err):
		return "the edge's store cannot be reached" + afterOutage
	}
	return ""
}

// taken reports a broken uniqueness rule, absent a broken reference.

func taken(err error) bool {
	return constraint(err, lib.SQLITE_CONSTRAINT_UNIQUE) || constraint(err, lib.SQLITE_CONSTRAINT_PRIMARYKEY) || said(err, pgUnique)
}

func absent(err error) bool {
	return constraint(err, lib.SQLITE_CONSTRAINT_FOREIGNKEY) || said(err, pgForeignKey)
}

func constraint(err error, code int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == code
}

func said(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

func missing(err error) bool { return errors.Is(err, sql.ErrNoRows) }
