package edge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
)

// storeFile begins a value of the key store that names a file which holds the URL.
const storeFile = "file:"

// validateStore checks what the keys say without looking at files.
func (c *Config) validateStore() error {
	switch {
	case c.Store == "" && c.StorePasswordFile != "":
		return errors.New("store_password_file: SQLite has no password: leave it out, or name the database under store")
	case c.Store == "", strings.HasPrefix(c.Store, storeFile+"/"):
		return nil
	}
	if u, err := url.Parse(c.Store); err == nil {
		if _, said := u.User.Password(); said || u.Query().Has("password") {
			return errors.New("store: a password does not belong here: put it in store_password_file, or the whole URL in a file " +
				"of mode 0600 and write store: file:/path/of/it")
		}
	}
	if err := (store.PostgreSQL{URL: c.Store}).Validate(); err != nil {
		return fmt.Errorf("store: %w; leave it empty for SQLite in state_dir", err)
	}
	return nil
}

// storeConfig says which database it is, files read.
func (c *Config) storeConfig() (store.Config, error) {
	if c.Store == "" {
		return store.Config{Path: c.database()}, nil
	}
	config, err := postgresConfig(c.Store)
	if err != nil {
		return store.Config{}, fmt.Errorf("store: %w", err)
	}
	if c.StorePasswordFile != "" {
		text, err := readPrivate(c.StorePasswordFile)
		if err != nil {
			return store.Config{}, fmt.Errorf("store_password_file: %w", err)
		}
		config.PostgreSQL.Password = secret.Redact(text)
	}
	return config, nil
}

// postgresConfig reads a URL, or the file that holds it.
func postgresConfig(text string) (config store.Config, err error) {
	if path, inFile := strings.CutPrefix(text, storeFile); inFile {
		if text, err = readPrivate(path); err != nil {
			return store.Config{}, err
		}
	}
	config.PostgreSQL.URL = text
	return config, nil
}

// MoveStore fills the store at to with what the one at from holds (store.Move); each is sqlite:PATH, postgres://… or
// file:/path of a file that holds such a URL. No edge may run on either. master.key is that of c's state directory, and
// store_password_file goes with a URL that equals c's store.
func MoveStore(ctx context.Context, c Config, from, to string, report func(store.Moved)) error {
	if from == to {
		return errors.New("--from and --to are the same store")
	}
	source, err := c.movable("--from", from)
	if err != nil {
		return err
	}
	target, err := c.movable("--to", to)
	if err != nil {
		return err
	}
	sealer, err := secret.LoadMaster(c.masterKey())
	if err != nil {
		return err
	}
	return store.Move(ctx, source, target, sealer, report)
}

func (c *Config) movable(flag, text string) (store.Config, error) {
	if path, file := strings.CutPrefix(text, "sqlite:"); file && path != "" {
		return store.Config{Path: path}, nil
	}
	if text != "" && text == c.Store {
		return c.storeConfig()
	}
	if text == storeFile || !strings.HasPrefix(text, storeFile) && !strings.HasPrefix(text, "postgres") {
		return store.Config{}, fmt.Errorf("%s %q: want sqlite:PATH, postgres://role@host/database, or file:/path of a file that holds the URL", flag, text)
	}
	config, err := postgresConfig(text)
	if err != nil {
		return store.Config{}, fmt.Errorf("%s: %w", flag, err)
	}
	return config, nil
}

// readPrivate reads one line from a file that nobody else may read.
func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: mode %04o lets others read it; chmod 600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(text))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: want one line", path)
	}
	return line, nil
}
