// Package change owns the log of what changed in the store, which every cache follows: a monotonic version and, for each
// change, whose and what it was. Writers append in the same transaction as the change itself; a Follower reads on from
// where it was and calls those who keep copies. It says that something changed, never what it is now.
package change

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Kind says which noun changed.
type Kind string

// Kinds lists those that are in the log.
func Kinds() []Kind {
	return []Kind{Tenant, Site, App, User, Service, Session, Token, Connector, Key, Ingress}
}

// The kinds that caches follow.
const (
	Tenant    Kind = "tenant"
	Site      Kind = "site"
	App       Kind = "app" // an app, its hosts or its rules
	User      Kind = "user"
	Service   Kind = "service"
	Session   Kind = "session" // revoked or expired early
	Token     Kind = "token"
	Connector Kind = "connector"
	Key       Kind = "key" // a signing key set
	// Ingress is a new version of a site's ingress rules; the ID is the site's.
	Ingress Kind = "ingress"
	// Database is never in the log: edges tell each other so which history of the database they work on, which the ID names.
	Database Kind = "database"
)

// Change is one row of the log.
type Change struct {
	Version int64
	Tenant  id.Tenant // empty for what belongs to the whole edge
	Kind    Kind
	ID      string
}

// Anything is the change that stands for all of a kind: what became of the copies cannot be told from the log, and all are to be read again.
func Anything(kind Kind) Change { return Change{Version: -1, Kind: kind} }

// IsAnything reports whether c stands for everything of its kind.
func (c Change) IsAnything() bool { return c.Version < 0 }

// Log reads the log.
type Log interface {
	// Since returns up to limit changes after version, oldest first.
	Since(ctx context.Context, version int64, limit int) ([]Change, error)
	// Version returns the newest version, 0 for an empty log.
	Version(ctx context.Context) (int64, error)
}
