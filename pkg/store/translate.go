package store

import (
	"bytes"
	"io/fs"
	"regexp"
)

// translation is a migration's text as one database wants it.
type translation func(text []byte) []byte

// postgresOnly is what stands in a migration for PostgreSQL alone: what SQLite has no need of, or does by itself.
var postgresOnly = regexp.MustCompile(`(?s)-- postgres: begin\n.*?-- postgres: end\n`)

var (
	blobWord = regexp.MustCompile(`\bBLOB\b`)
	textWord = regexp.MustCompile(`\bTEXT\b`)
)

func forSQLite(text []byte) []byte { return postgresOnly.ReplaceAll(text, nil) }

// forPostgres has text compared by its bytes, as SQLite does, whatever language the database was made for: the order is the
// same on both, and no index breaks with a new version of the system's own collations.
func forPostgres(text []byte) []byte {
	text = blobWord.ReplaceAll(text, []byte("BYTEA"))
	return textWord.ReplaceAll(text, []byte(`TEXT COLLATE "C"`))
}

// translated is the directory of migrations, read through a translation.
type translated struct{ read translation }

func (t translated) Open(name string) (fs.File, error) {
	if name == "." {
		return migrations.Open("migrations")
	}
	file, err := migrations.Open("migrations/" + name)
	if err != nil {
		return nil, err
	}
	text, err := migrations.ReadFile("migrations/" + name)
	if err != nil {
		return nil, err
	}
	return &translatedFile{File: file, text: bytes.NewReader(t.read(text))}, nil
}

// ReadDir implements fs.ReadDirFS: fs.Glob lists the directory with it.
func (translated) ReadDir(string) ([]fs.DirEntry, error) { return migrations.ReadDir("migrations") }

type translatedFile struct {
	fs.File
	text *bytes.Reader
}

func (f *translatedFile) Read(p []byte) (int, error) { return f.text.Read(p) }
