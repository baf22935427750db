package store

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	// The driver registers itself as "sqlite".
	_ "modernc.org/sqlite"
)

// readers is how many queries run at a time beside the writer. They are short, and each connection has a page cache.
const readers = 8

// busyMillis is how long a connection waits for SQLite's own locks. Within one process only a checkpoint takes them.
const busyMillis = "5000"

// preparePrivate makes the file where there is none. SQLite gives its log and index files the mode of the file itself.
func preparePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("mode %04o lets others read it; chmod 600", info.Mode().Perm())
	}
	return nil
}

func openWriter(path string) (*sql.DB, error) {
	db, err := openSQLite(path, url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(" + busyMillis + ")",
			"journal_mode(WAL)",
			// FULL syncs the log at every commit: what was acknowledged survives a power cut.
			"synchronous(FULL)",
			"foreign_keys(1)",
			// After a checkpoint the log is cut back to this, so that one burst does not hold disk for good.
			"journal_size_limit(67108864)",
		},
	})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

func openReader(path string) (*sql.DB, error) {
	db, err := openSQLite(path, url.Values{
		"mode":    {"ro"},
		"_pragma": {"busy_timeout(" + busyMillis + ")", "query_only(1)"},
	})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

func openSQLite(path string, options url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// Defensive: no statement, ours or injected, can write to SQLite's own structures.
	options.Set("_defensive", "1")
	file := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	return sql.Open("sqlite", file.String())
}
