package store

import (
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// explain gives a fault code and words to what the database itself says. Uniqueness and references that a caller can break
// are answered where they are known (taken, absent); what reaches this function otherwise is the machine's trouble or ours.
func explain(err error) error {
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

// taken reports a broken uniqueness rule, absent a broken reference.

func taken(err error) bool {
	return constraint(err, lib.SQLITE_CONSTRAINT_UNIQUE) || constraint(err, lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

func absent(err error) bool { return constraint(err, lib.SQLITE_CONSTRAINT_FOREIGNKEY) }

func constraint(err error, code int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == code
}

func missing(err error) bool { return errors.Is(err, sql.ErrNoRows) }
