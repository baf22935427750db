package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// masterPurpose and masterProof are sealed into the store when it is made.
const masterPurpose, masterProof = "store/check", "sallyport"

// migrate brings the schema up to the newest this program knows, each step in its own transaction. There is no way down:
// going back to an older program means going back to the back-up made before the upgrade.
//
// Beside a process of the version before, which finishes its work on the same store, only steps run that say that it can.
func migrate(ctx context.Context, db *sql.DB, beside bool) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, steps, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("schema version: %w", explain(err))
	}
	if have > want {
		return fmt.Errorf("its schema is version %d and this program knows up to %d: a newer edge has used it; "+
			"run that version, or restore the back-up made before the upgrade", have, want)
	}
	if beside {
		if err := bearable(steps, provider.ListSources(), have); err != nil {
			return err
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("schema upgrade from version %d to %d: %w", have, want, explain(err))
	}
	return nil
}

// besideMark stands in a migration with whose result the program before it can work: added tables, added columns that have a
// default.
const besideMark = "-- sallyport: the version before can go on beside this"

// bearable refuses steps above have that lack the mark, before any of them is taken.
func bearable(steps fs.FS, sources []*goose.Source, have int64) error {
	for _, source := range sources {
		if source.Version <= have {
			continue
		}
		text, err := fs.ReadFile(steps, path.Base(source.Path))
		if err != nil {
			return fmt.Errorf("migrations: %w", err)
		}
		if !bytes.Contains(text, []byte(besideMark)) {
			return fmt.Errorf("this version changes the store (step %s) in a way that the running one cannot work with: "+
				"stop the edge, make a back-up, and start this version", path.Base(source.Path))
		}
	}
	return nil
}

// checkMaster finds a wrong master.key now, and not when the first address cannot be read.
func (db *DB) checkMaster(ctx context.Context) error {
	var sealed []byte
	err := db.writer.QueryRowContext(ctx, `SELECT sealed FROM store_check WHERE id = 1`).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return db.sealProof(ctx)
	}
	if err != nil {
		return explain(err)
	}
	plain, err := db.sealer.Open(masterPurpose, sealed)
	if err != nil || !bytes.Equal(plain, []byte(masterProof)) {
		return fault.New(fault.Invalid, "it was sealed under another master.key: put the one beside it that was there when it was made").Because(err)
	}
	return nil
}

func (db *DB) sealProof(ctx context.Context) error {
	sealed, err := db.sealer.Seal(masterPurpose, []byte(masterProof))
	if err != nil {
		return err
	}
	_, err = db.writer.ExecContext(ctx, `INSERT INTO store_check (id, sealed) VALUES (1, $1)`, sealed)
	return explain(err)
}
