package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"path"

	"github.com/pressly/goose/v3"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// masterPurpose and masterProof are sealed into the store when it is made.
const masterPurpose, masterProof = "store/check", "sallyport"

// newProvider reads the migrations as one database wants them.
func newProvider(dialect goose.Dialect, db *sql.DB, read translation) (*goose.Provider, error) {
	provider, err := goose.NewProvider(dialect, db, translated{read}, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}

// migrate brings the schema up to the newest this program knows, each step in its own transaction. There is no way down: a
// step either leaves what the program before it needs (besideMark), so that both work on it in any order, or going back means
// going back to the back-up made before the upgrade.
//
// Beside a process of the version before, which goes on working on the same store, only steps of the first kind run.
func (db *DB) migrate(ctx context.Context, provider *goose.Provider, pool *sql.DB, beside bool) error {
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("schema version: %w", explain(err))
	}
	if have > want && db.use == asStore {
		var floor int64
		err := pool.QueryRowContext(ctx, `SELECT version FROM schema_floor WHERE id = 1`).Scan(&floor)
		if err == nil && floor <= want {
			return nil // a newer edge has only added to it
		}
	}
	if have > want {
		return fmt.Errorf("its schema is version %d and this program knows up to %d: a newer edge has used it; "+
			"run that version, or restore the back-up made before the upgrade", have, want)
	}
	if db.use == asSource {
		if have != want {
			return fmt.Errorf("its schema is version %d and this program's %d: run this version's edge on it once, then move", have, want)
		}
		return nil
	}
	if beside && have > 0 {
		if err := bearable(provider.ListSources(), have); err != nil {
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
func bearable(sources []*goose.Source, have int64) error {
	for _, source := range sources {
		if source.Version <= have {
			continue
		}
		text, err := migrations.ReadFile("migrations/" + path.Base(source.Path))
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

// checkMaster finds a wrong master.key now, and not when the first address cannot be read; and a store that is not whole yet.
func (db *DB) checkMaster(ctx context.Context) error {
	if db.use != asSource {
		if err := db.leaveProof(ctx); err != nil {
			return err
		}
	}
	var sealed []byte
	if err := db.ask(ctx, everyTenant, `SELECT sealed FROM store_check WHERE id = 1`).Scan(&sealed); err != nil {
		return explain(err)
	}
	plain, err := db.sealer.Open(masterPurpose, sealed)
	if err != nil || !bytes.Equal(plain, []byte(masterProof)) {
		return fault.New(fault.Invalid, "it was sealed under another master.key: put the one beside it that was there when it was made").Because(err)
	}
	if db.use == asTarget {
		return nil
	}
	var moving int64
	if err := db.ask(ctx, everyTenant, `SELECT COUNT(*) FROM moves WHERE finished = 0`).Scan(&moving); err != nil {
		return explain(err)
	}
	if moving > 0 {
		return fault.New(fault.Conflict, "another store is being moved into it, and not all of it is there: run edge store move again")
	}
	return nil
}

// leaveProof seals the proof into a store that has none. Of two edges that find none at the same time, one leaves its own.
func (db *DB) leaveProof(ctx context.Context) error {
	fresh, err := db.sealer.Seal(masterPurpose, []byte(masterProof))
	if err != nil {
		return err
	}
	return db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO store_check (id, sealed) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, fresh)
		return err
	})
}
