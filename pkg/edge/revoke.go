package edge

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// assembleRevoker makes revocations take effect beside the change log: at the other edges, and while the store is away.
func (e *Edge) assembleRevoker(context.Context) (err error) {
	e.revoker, err = cluster.NewRevoker(cluster.RevokerConfig{
		Path: filepath.Join(e.config.StateDir, "revocations.pending"), Sealer: e.sealer, Store: revocations{e.store, e.clock.Now},
		Enforce: e.enforce, Kick: e.follower.Kick, Logger: e.logger, Metrics: e.metrics,
		Tell: func(changes []change.Change) int {
			if e.peers == nil {
				return 0
			}
			return e.peers.Tell(changes)
		},
	})
	if err != nil {
		return err
	}
	e.store.WhenCommitted(e.revoker.Committed)
	return nil
}

// enforce ends what runs under something that was revoked.
func (e *Edge) enforce(ctx context.Context, c change.Change) {
	banned := e.revoker.Banned(c.Tenant, c.Kind, c.ID)
	if c.Kind == change.Connector {
		e.enrolled.Forget(id.Connector(c.ID))
	}
	if err := e.access.Apply(ctx, c); err != nil {
		e.logger.Warn("a revocation was not applied to all that runs", log.Tenant(c.Tenant), zap.Error(err))
	}
	switch {
	case c.Kind == change.Connector && banned:
		e.cutConnector(c.Tenant, id.Connector(c.ID))
	case c.Kind == change.Connector:
		// That the store does not answer is no reason to cut a connector of which nobody said that it is revoked.
		if err := e.control.CheckConnector(ctx, id.Connector(c.ID)); err != nil {
			e.logger.Warn("a connector has changed and cannot be looked up", log.Connector(id.Connector(c.ID)), zap.Error(err))
		}
	case c.Kind == change.Session:
		e.control.RevokeSession(c.Tenant, id.Session(c.ID))
	case c.Kind == change.User && banned:
		e.control.RevokePrincipal(c.Tenant, c.ID)
	}
}

// cutConnector closes the links of a clinic's connector.
func (e *Edge) cutConnector(t id.Tenant, c id.Connector) {
	if slices.ContainsFunc(e.registry.Members(t), func(m registry.Status) bool { return m.Connector == c }) {
		e.registry.CloseConnector(c, tunnel.Reason{Code: tunnel.ReasonRevoked, Message: "revoked"})
	}
}

// signOut ends a session as the person asks who is in it: on this edge and those that can be reached at once, also while the store is
// away, and in the store as soon as it takes it.
func (e *Edge) signOut(ctx context.Context, t id.Tenant, s id.Session) error {
	c := change.Change{Tenant: t, Kind: change.Session, ID: string(s)}
	if e.away() {
		_, err := e.revoker.Revoke(ctx, c)
		return err
	}
	_, _, err := e.revoker.Ensure(ctx, c, func(ctx context.Context) error { return e.store.Sessions().Revoke(ctx, t, s, e.clock.Now()) })
	return err
}

// heldSessions are the store's, but for what is revoked and the store was not told of yet.
type heldSessions struct {
	session.Store
	banned func(t id.Tenant, kind change.Kind, name string) bool
}

// SessionByReference implements session.Store.
func (h heldSessions) SessionByReference(ctx context.Context, t id.Tenant, hash, host string) (session.Session, error) {
	s, err := h.Store.SessionByReference(ctx, t, hash, host)
	return h.held(s), err
}

// RedeemHandoff implements session.Store.
func (h heldSessions) RedeemHandoff(
	ctx context.Context, t id.Tenant, hash, host, flow string, now time.Time, ref session.Reference,
) (session.Session, error) {
	s, err := h.Store.RedeemHandoff(ctx, t, hash, host, flow, now, ref)
	return h.held(s), err
}

func (h heldSessions) held(s session.Session) session.Session {
	if s.Revoked.IsZero() && (h.banned(s.Tenant, change.Session, string(s.ID)) || h.banned(s.Tenant, change.User, string(s.User))) {
		s.Revoked = s.Created // when exactly is not known here
	}
	return s
}

// revocations writes them down in the store, by whatever noun they are of.
type revocations struct {
	db  *store.DB
	now func() time.Time
}

var _ cluster.RevokerStore = revocations{}

// Revoke implements cluster.RevokerStore.
func (r revocations) Revoke(ctx context.Context, c change.Change) error {
	switch now := r.now(); c.Kind {
	case change.Session:
		return r.db.Sessions().Revoke(ctx, c.Tenant, id.Session(c.ID), now)
	case change.Token:
		return r.db.Services().RevokeServiceToken(ctx, c.Tenant, id.Token(c.ID), now)
	case change.Connector:
		return r.db.Enroll().RevokeConnector(ctx, c.Tenant, id.Connector(c.ID), now)
	case change.User:
		user, err := r.user(ctx, c)
		if err != nil {
			return err
		}
		return r.db.Identity().SetDisabled(ctx, c.Tenant, user, true)
	}
	return notRevocable(c)
}

// Revoked implements cluster.RevokerStore.
func (r revocations) Revoked(ctx context.Context, c change.Change) (bool, error) {
	switch c.Kind {
	case change.Session:
		s, err := r.db.Sessions().Session(ctx, c.Tenant, id.Session(c.ID))
		return !s.Revoked.IsZero(), err
	case change.Token:
		t, err := r.db.Services().ServiceToken(ctx, c.Tenant, id.Token(c.ID))
		return !t.Revoked.IsZero(), err
	case change.Connector:
		known, err := r.db.Enroll().Connector(ctx, id.Connector(c.ID))
		return known.Tenant == c.Tenant && !known.Revoked.IsZero(), err
	case change.User:
		user, err := r.user(ctx, c)
		if err != nil {
			return false, err
		}
		u, err := r.db.Identity().User(ctx, c.Tenant, user)
		return u.Disabled, err
	}
	return false, notRevocable(c)
}

// user is whom a revocation names, by id or by e-mail address.
func (r revocations) user(ctx context.Context, c change.Change) (id.User, error) {
	if !strings.Contains(c.ID, "@") {
		return id.User(c.ID), nil
	}
	u, err := r.db.Identity().UserByEmail(ctx, c.Tenant, c.ID)
	return u.ID, err
}

func notRevocable(c change.Change) error {
	return fault.New(fault.NotFound, "nothing of kind %s is revoked", c.Kind)
}
