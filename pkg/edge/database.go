package edge

import (
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
	config := store.Config{Path: c.database()}
	if c.Store == "" {
		return config, nil
	}
	config.PostgreSQL.URL = c.Store
	if path, inFile := strings.CutPrefix(c.Store, storeFile); inFile {
		text, err := readPrivate(path)
		if err != nil {
			return store.Config{}, fmt.Errorf("store: %w", err)
		}
		config.PostgreSQL.URL = text
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
