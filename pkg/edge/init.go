package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Init prepares a state directory: master.key, the store, the first signing keys and, unless certificates are configured,
// the local CA. What exists already is left as it is, so that it may run again; a store whose master.key is missing is an
// error. It returns a line for each thing that it made.
//
// Of several edges on one PostgreSQL the first is prepared so, and its master.key is copied to the others before their Init.
func Init(ctx context.Context, c Config) (made []string, err error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	newKey := missing(c.masterKey())
	if newKey {
		if c.Store == "" && !missing(c.database()) { // a new key could not open it, and would pass for the one to restore
			return nil, fmt.Errorf("%s is missing, and %s was sealed under it: restore it from the back-up", c.masterKey(), c.database())
		}
		if err := secret.CreateMaster(c.masterKey()); err != nil {
			return made, err
		}
		made = append(made, "master key   "+c.masterKey()+"   (back it up apart from the store)")
	}
	if len(c.Certificates) == 0 && missing(c.localCA()) {
		if err := certs.InitLocalCA(c.localCA()); err != nil {
			return made, err
		}
		made = append(made, "local CA     "+c.localCA()+"   (for trying out: browsers do not know it)")
	}
	fresh := c.Store == "" && missing(c.database())
	db, _, err := openStore(ctx, c, nil, time.Now, nil)
	if err != nil {
		if newKey && c.Store != "" { // it opens nothing, and would stand in the way of the right one
			err = errors.Join(err, os.Remove(c.masterKey()))
			return nil, fmt.Errorf("%w; if other edges use this store already, copy their master.key to %s first", err, c.masterKey())
		}
		return made, err
	}
	_, err = token.NewKeyring(ctx, db.Keys(), time.Now)
	if err := errors.Join(err, db.Close()); err != nil {
		return made, err
	}
	if fresh {
		made = append(made, "store        "+c.database())
	}
	if len(made) == 0 {
		made = append(made, c.StateDir+" is prepared already")
	}
	return made, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

func openStore(
	ctx context.Context, c Config, lock *os.File, now func() time.Time, history func(store.History),
) (*store.DB, *secret.Sealer, error) {
	if missing(c.masterKey()) {
		return nil, nil, fmt.Errorf("%s is missing: run `edge init` on a new machine, or restore it from the back-up", c.masterKey())
	}
	sealer, err := secret.LoadMaster(c.masterKey())
	if err != nil {
		return nil, nil, err
	}
	config, err := c.storeConfig()
	if err != nil {
		return nil, nil, err
	}
	config.Lock, config.Now, config.WhenHistory = lock, now, history
	if config.Seen, err = c.historySeen(); err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, config, sealer)
	if store.LeftBehind(err) {
		err = fmt.Errorf("%w; if that database is meant all the same, because a back-up was restored or the store is another one now, "+
			"stop all edges, remove %s at each, and start them", err, c.historyFile())
	}
	return db, sealer, err
}
