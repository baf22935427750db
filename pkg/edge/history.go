package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/store"
)

// The edges of a cluster remember which history of the database was worked on last, each in a file and all by telling each other, so that
// none of them writes to a primary whose place another server has taken.

// historyFile is where this edge remembers it. Removing it is how an operator says that another database, or an earlier one, is meant.
func (c *Config) historyFile() string { return filepath.Join(c.StateDir, "database.history") }

// historySeen reads the file.
func (c *Config) historySeen() (store.History, error) {
	text, err := os.ReadFile(c.historyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return store.History{}, nil
	}
	if err != nil {
		return store.History{}, err
	}
	h, err := store.ParseHistory(strings.TrimSpace(string(text)))
	if err != nil {
		return store.History{}, fmt.Errorf("%s: %w", c.historyFile(), err)
	}
	return h, nil
}

// storeHistory is called for each history that is new to this process, before anything is read or written there.
func (e *Edge) storeHistory(h store.History) {
	if err := keepHistory(e.config.historyFile(), h); err != nil {
		e.logger.Error("which history of the database is worked on is not on the disk: started again, this edge may take a former primary for the present one",
			zap.Error(err))
	}
	if f := e.switched.Load(); f != nil {
		(*f)(h)
	}
}

// onSwitch has everything read again, and the other edges told, from now on.
func (e *Edge) onSwitch() {
	f := func(h store.History) {
		e.logger.Warn("the database was switched over: everything is read again", zap.Stringer("history", h))
		e.follower.Restart()
		if e.peers != nil {
			e.peers.Tell([]change.Change{historyChange(h)})
		}
	}
	e.switched.Store(&f)
}

func keepHistory(path string, h store.History) error {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(h.String() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

func historyChange(h store.History) change.Change {
	return change.Change{Kind: change.Database, ID: h.String()}
}

// pending is what a peer is told first.
func (e *Edge) pending() []change.Change {
	all := e.revoker.Pending()
	if h := e.store.History(); !h.IsZero() {
		all = append(all, historyChange(h))
	}
	return all
}

// heard takes what another edge says.
func (e *Edge) heard(from id.Edge, changes []change.Change) {
	for _, c := range changes {
		if c.Kind != change.Database {
			continue
		}
		h, err := store.ParseHistory(c.ID)
		if err == nil && h.Timeline < e.store.History().Timeline {
			continue // it hears of ours
		}
		if err == nil {
			err = e.store.LeaveBehind(h)
		}
		if err != nil {
			e.logger.Error("another edge works on another database", zap.String("edge", string(from)), zap.Error(err))
		}
	}
	e.revoker.Heard(from, changes)
}
